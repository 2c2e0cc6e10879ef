#include "eqnet/weight_codes.h"

#include <algorithm>
#include <vector>

#include "eqnet/threads.h"
#include "ranges.h"
#include "rounding.h"

namespace eqnet {
namespace {

using namespace lanes;

// Rows that go through the factor together: it is read from the memory once for all of them, and they themselves stay
// in the cache of a core.
constexpr int kStrips = 4;
// Columns that are copied at a time between rows and lanes, so that both stay in the nearest cache.
constexpr std::int64_t kPiece = 64;
// Columns that errors are taken from, or given to, at a time.
constexpr std::int64_t kSection = 128;

struct Job {
  const float* weight;
  std::int64_t rows;
  std::int64_t cols;
  WeightFormat format;
  Rounding rounding;
  std::int64_t groups;
  std::vector<float> h;             // importance, 1 in the mean of each group, [cols]
  std::vector<std::int32_t> group;  // of each column in the order of rounding, [cols]
  std::uint8_t* codes;
  float* scale;
  float* zero_point;
  float* error;
  double* forms;

  std::size_t column(std::int64_t position) const {
    return static_cast<std::size_t>(rounding.order == nullptr ? position : rounding.order[position]);
  }
  std::int64_t group_end(std::int64_t index) const { return std::min((index + 1) * format.group_size, cols); }
};

// Some rows, each a lane of a strip.
class Strip {
 public:
  Strip(const Job& job, std::int64_t first)
      : job_(job),
        limits_(job.format),
        first_(first),
        count_(static_cast<int>(std::min<std::int64_t>(kWidth, job.rows - first))),
        x_(static_cast<std::size_t>(job.cols)),
        codes_(static_cast<std::size_t>(job.cols)),
        ranges_(static_cast<std::size_t>(job.groups)) {
    for (std::int64_t start = 0; start < job.cols; start += kPiece) {
      const std::int64_t end = std::min(start + kPiece, job.cols);
      for (int l = 0; l < count_; ++l) {
        const float* row = job.weight + (first + l) * job.cols;
        for (std::int64_t c = start; c < end; ++c) x_[static_cast<std::size_t>(c)][l] = row[c];
      }
    }
  }

  // Of the group, all of whose columns are where they are in the weight.
  void find(std::int64_t index, Largest& largest) {
    const std::int64_t start = index * job_.format.group_size;
    const Group group{x_.data() + start, job_.h.data() + start, job_.group_end(index) - start};
    find_range(group, job_.format, job_.rounding.searched, ranges_[static_cast<std::size_t>(index)], largest);
  }

  // Puts columns into the order in which they are rounded.
  void arrange() {
    const std::vector<Lanes> natural = x_;
    for (std::int64_t i = 0; i < job_.cols; ++i) x_[static_cast<std::size_t>(i)] = natural[job_.column(i)];
  }

  // Puts codes back to where their columns are in the weight.
  void restore() {
    const std::vector<Bytes> ordered = codes_;
    for (std::int64_t i = 0; i < job_.cols; ++i) codes_[job_.column(i)] = ordered[static_cast<std::size_t>(i)];
  }

  // Makes columns [start, end) take the errors of [from, to).
  void take(std::int64_t from, std::int64_t to, std::int64_t start, std::int64_t end) {
    take_errors(x_.data() + from, to - from, job_.rounding.factor + start * job_.cols + from, job_.cols,
                x_.data() + start, end - start);
  }

  // Rounds columns [start, end), which have taken the errors of all before them.
  void round(std::int64_t start, std::int64_t end) {
    const float* factor = job_.rounding.factor;
    for (std::int64_t from = start; from < end; from += kColumns) {
      const std::int64_t to = std::min(from + kColumns, end);
      if (factor != nullptr) take(start, from, from, to);
      round_columns(x_.data() + from, to - from, job_.group.data() + from, ranges_.data(), limits_,
                    factor == nullptr ? nullptr : factor + from * (job_.cols + 1), job_.cols, codes_.data() + from);
    }
  }

  void write() const {
    if (job_.rounding.factor != nullptr) write_forms();
    for (int l = 0; l < count_; ++l) {
      const std::int64_t row = (first_ + l) * job_.groups;
      for (std::int64_t i = 0; i < job_.groups; ++i) {
        job_.scale[row + i] = ranges_[static_cast<std::size_t>(i)].scale[l];
        job_.zero_point[row + i] = ranges_[static_cast<std::size_t>(i)].zero_point[l];
      }
    }
    // In pieces, as neighbours here are far apart there.
    Lanes values[kPiece];
    for (std::int64_t start = 0; start < job_.cols; start += kPiece) {
      const std::int64_t columns = std::min(kPiece, job_.cols - start);
      for (std::int64_t c = 0; c < columns; ++c) {
        const auto& range = ranges_[static_cast<std::size_t>((start + c) / job_.format.group_size)];
        dequantize(codes_[static_cast<std::size_t>(start + c)], range, limits_, values[c]);
      }
      const Bytes* piece = codes_.data() + start;
      for (int l = 0; l < count_; ++l) {
        const std::int64_t place = (first_ + l) * job_.cols + start;
        std::uint8_t* codes = job_.codes + place;
        for (std::int64_t c = 0; c < columns; ++c) codes[c] = piece[c].at[l];
        const float* weight = job_.weight + place;
        float* error = job_.error + place;
        for (std::int64_t c = 0; c < columns; ++c) error[c] = values[c][l] - weight[c];
      }
    }
  }

 private:
  // The error of the whole row is what its columns have become times the factor: the forms are their squares.
  void write_forms() const {
    double sums[kWidth] = {};
    for (const Lanes& x : x_) {
      for (int l = 0; l < kWidth; ++l) sums[l] += static_cast<double>(x[l]) * x[l];
    }
    std::copy_n(sums, count_, job_.forms + first_);
  }

  const Job& job_;
  Limits limits_;
  std::int64_t first_;
  int count_;
  std::vector<Lanes> x_;
  std::vector<Bytes> codes_;
  std::vector<Range> ranges_;
};

// Columns from `start` on that are rounded before others take their errors: a group or a part of one, so that where a
// group begins, all of its columns can be made to take the errors of those before it.
std::int64_t section_end(const Job& job, std::int64_t start) {
  const std::int64_t end = std::min(start + kSection, job.cols);
  if (job.rounding.order != nullptr) return end;
  return std::min(end, job.group_end(start / job.format.group_size));
}

Largest round_tile(const Job& job, std::int64_t first) {
  Largest largest{0.0f, 0.0f};
  std::vector<Strip> strips;
  strips.reserve(kStrips);
  for (std::int64_t row = first; row < std::min(first + kStrips * kWidth, job.rows); row += kWidth) {
    strips.emplace_back(job, row);
  }
  if (job.rounding.order != nullptr) {
    for (Strip& strip : strips) {
      for (std::int64_t i = 0; i < job.groups; ++i) strip.find(i, largest);
      strip.arrange();
    }
  }
  for (std::int64_t start = 0, end; start < job.cols; start = end) {
    end = section_end(job, start);
    // Where a group of several sections begins, all of its columns take the errors of those before it.
    const std::int64_t index = start / job.format.group_size, group_start = index * job.format.group_size;
    const bool ordered = job.rounding.order != nullptr, begins = !ordered && start == group_start;
    if (job.rounding.factor != nullptr) {
      const std::int64_t taking = begins ? job.group_end(index) : end;
      for (std::int64_t from = begins || ordered ? 0 : group_start; from < start; from += kSection) {
        for (Strip& strip : strips) strip.take(from, std::min(from + kSection, start), start, taking);
      }
    }
    for (Strip& strip : strips) {
      if (begins) strip.find(index, largest);
      strip.round(start, end);
    }
  }
  for (Strip& strip : strips) {
    if (job.rounding.order != nullptr) strip.restore();
    strip.write();
  }
  return largest;
}

std::vector<float> relative_importance(const float* importance, std::int64_t cols, std::int64_t group_size) {
  std::vector<float> h(static_cast<std::size_t>(cols), 1.0f);
  if (importance == nullptr) return h;
  for (std::int64_t start = 0; start < cols; start += group_size) {
    const std::int64_t end = std::min(start + group_size, cols);
    double sum = 0.0;
    for (std::int64_t c = start; c < end; ++c) sum += importance[c];
    if (!(sum > 0.0)) continue;
    const double mean = sum / static_cast<double>(end - start);
    for (std::int64_t c = start; c < end; ++c) {
      h[static_cast<std::size_t>(c)] = static_cast<float>(importance[c] / mean);
    }
  }
  return h;
}

}  // namespace

Largest weight_codes(const float* weight, std::int64_t rows, std::int64_t cols, const WeightFormat& format,
                     const Rounding& rounding, std::uint8_t* codes, float* scale, float* zero_point, float* error,
                     double* forms, int threads) {
  Job job{weight,
          rows,
          cols,
          format,
          rounding,
          (cols + format.group_size - 1) / format.group_size,
          relative_importance(rounding.importance, cols, format.group_size),
          std::vector<std::int32_t>(static_cast<std::size_t>(cols)),
          codes,
          scale,
          zero_point,
          error,
          forms};
  const auto size = static_cast<std::size_t>(format.group_size);
  for (std::int64_t i = 0; i < cols; ++i) {
    job.group[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(job.column(i) / size);
  }
  constexpr std::int64_t kRows = kStrips * kWidth;
  std::vector<Largest> found(static_cast<std::size_t>((rows + kRows - 1) / kRows));
  parallel_for(static_cast<std::int64_t>(found.size()), threads,
               [&](std::int64_t i) { found[static_cast<std::size_t>(i)] = round_tile(job, i * kRows); });
  Largest largest{0.0f, 0.0f};
  for (const Largest& one : found) {
    if (one.scale > largest.scale) largest = one;
  }
  return largest;
}

}  // namespace eqnet
