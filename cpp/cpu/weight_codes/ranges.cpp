#include "ranges.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "../multiversion.h"

namespace eqnet::lanes {
namespace {

// By bits less 2, the step that loses least of values of a normal distribution, in its standard deviations (Max, 1960).
constexpr float kFinest[] = {0.996f, 0.586f, 0.335f, 0.188f, 0.104f, 0.057f, 0.031f};
// The search goes down to this share of that step: tails of weights are as heavy as those of a normal, or heavier.
constexpr float kMargin = 0.8f;
constexpr float kSmallestShare = 1e-3f;  // of the full range
constexpr float kLargestShare = 0.95f;   // for the end of the search
constexpr int kSteps = 10;
constexpr int kRefits = 2;
// Factors of the best scale with which the zero points beside the best are tried.
constexpr float kNear[] = {0.94f, 1.0f, 1.06f};
constexpr float kTiny = 1e-30f;      // far below any sum of squares of codes; keeps 0 / 0 out
constexpr std::int64_t kRun = 128;  // terms that are summed up before they are added to the others, for accuracy

// The bits of a float32, less the lowest `kDropped` of its fraction, rounded half to even.
template <int kDropped>
EQNET_INLINE float shortened(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits += ((1u << (kDropped - 1)) - 1) + (bits >> kDropped & 1u);
  bits &= ~((1u << kDropped) - 1);
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

// Positive scales as their type holds them; those below its smallest value become that.
EQNET_INLINE Lanes stored(const Lanes& scale, ScaleType type) {
  constexpr float kNormal = std::numeric_limits<float>::min();
  Lanes result;
  if (type == ScaleType::kFloat16) {
    for (int l = 0; l < kWidth; ++l) {
      const float held = clamped(scale[l], 0x1p-24f, 65504.0f);
      const float subnormal = std::rint(held * 0x1p24f) * 0x1p-24f;
      result[l] = held < 0x1p-14f ? subnormal : shortened<13>(held);
    }
  } else if (type == ScaleType::kBfloat16) {
    for (int l = 0; l < kWidth; ++l) result[l] = shortened<16>(clamped(scale[l], kNormal, 0x1.fep127f));
  } else {
    for (int l = 0; l < kWidth; ++l) result[l] = clamped(scale[l], kNormal, std::numeric_limits<float>::max());
  }
  return result;
}

// For values from kSmallestShare to 1: a guess that halves, so to speak, the exponent by 9, and Newton's method.
EQNET_INLINE float ninth_root(float value) {
  static_assert(kSteps - 1 == 9, "the ratio of candidates that follow each other");
  constexpr float kBits = 0x1p23f * 127.0f;  // of 1
  std::int32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = static_cast<std::int32_t>(kBits + (static_cast<float>(bits) - kBits) / 9.0f);
  float root;
  std::memcpy(&root, &bits, sizeof(bits));
  for (int i = 0; i < 4; ++i) {
    const float square = root * root, fourth = square * square;
    root = (8.0f * root + value / (fourth * fourth)) / 9.0f;
  }
  return root;
}

struct Extremes {
  Lanes low, high;  // and 0
};

EQNET_INLINE Extremes extremes(const Group& group) {
  Extremes result{};
  for (std::int64_t i = 0; i < group.size; ++i) {
    const Lanes& x = group.x[i];
    for (int l = 0; l < kWidth; ++l) result.low[l] = std::min(result.low[l], x[l]);
    for (int l = 0; l < kWidth; ++l) result.high[l] = std::max(result.high[l], x[l]);
  }
  return result;
}

EQNET_INLINE Lanes mean(const Group& group) {
  Lanes total{};
  for (std::int64_t start = 0; start < group.size; start += kRun) {
    const std::int64_t end = std::min(start + kRun, group.size);
    float sum[kWidth] = {};
    for (std::int64_t i = start; i < end; ++i) {
      for (int l = 0; l < kWidth; ++l) sum[l] += group.x[i][l];
    }
    for (int l = 0; l < kWidth; ++l) total[l] += sum[l];
  }
  for (int l = 0; l < kWidth; ++l) total[l] /= static_cast<float>(group.size);
  return total;
}

EQNET_INLINE Lanes standard_deviation(const Group& group) {
  const Lanes middle = mean(group);
  Lanes total{};
  for (std::int64_t start = 0; start < group.size; start += kRun) {
    const std::int64_t end = std::min(start + kRun, group.size);
    float sum[kWidth] = {};
    for (std::int64_t i = start; i < end; ++i) {
      for (int l = 0; l < kWidth; ++l) {
        const float away = group.x[i][l] - middle[l];
        sum[l] += away * away;
      }
    }
    for (int l = 0; l < kWidth; ++l) total[l] += sum[l];
  }
  for (int l = 0; l < kWidth; ++l) total[l] = std::sqrt(total[l] / static_cast<float>(group.size));
  return total;
}

EQNET_INLINE Range full_range(const Extremes& x, const WeightFormat& format, Largest& largest) {
  const Limits limits(format);
  Range full{};
  for (int l = 0; l < kWidth; ++l) {
    const float reach = x.high[l] > -x.low[l] ? x.high[l] : -x.low[l];
    const float scale = (format.symmetric ? reach : x.high[l] - x.low[l]) / limits.highest;
    if (scale > largest.scale) largest = {scale, reach};
    full.scale[l] = scale > 0.0f ? scale : 1.0f;
  }
  full.scale = stored(full.scale, format.scale_type);
  if (!format.symmetric) {
    for (int l = 0; l < kWidth; ++l) {
      full.zero_point[l] = clamped(std::rint(-x.low[l] / full.scale[l]), limits.lowest, limits.highest);
    }
  }
  return full;
}

// The best range so far, each scale refitted to the codes that it gave.
class Search {
 public:
  EQNET_INLINE Search(const Group& group, const Limits& limits) : group_(group), limits_(limits) {
    for (int l = 0; l < kWidth; ++l) best.scale[l] = 1.0f;
  }

  // Takes `scale`, refitted, and `zero_point` for all lanes that lose less with them.
  EQNET_INLINE void fit(const Lanes& scale, const Lanes& zero_point) {
    Lanes lowest, highest, inverse, product{}, square{};
    for (int l = 0; l < kWidth; ++l) {
      lowest[l] = limits_.lowest - zero_point[l];
      highest[l] = limits_.highest - zero_point[l];
      inverse[l] = 1.0f / scale[l];
    }
    for (std::int64_t start = 0; start < group_.size; start += kRun) {
      const std::int64_t end = std::min(start + kRun, group_.size);
      float products[kWidth] = {}, squares[kWidth] = {};
      for (std::int64_t i = start; i < end; ++i) {
        const float h = group_.h[i];
        for (int l = 0; l < kWidth; ++l) {
          const float x = group_.x[i][l];
          const float code = clamped(std::rint(x * inverse[l]), lowest[l], highest[l]);
          const float weighted = h * code;
          products[l] += x * weighted;
          squares[l] += code * weighted;
        }
      }
      for (int l = 0; l < kWidth; ++l) {
        product[l] += products[l];
        square[l] += squares[l];
      }
    }
    for (int l = 0; l < kWidth; ++l) {
      const float fitted = product[l] / (square[l] + kTiny);
      // The error of the fitted scale is the sum of h x^2 less this, which is never negative: codes have the signs of
      // weights.
      const float gain = product[l] * fitted;
      const bool better = gain > gain_[l];
      gain_[l] = better ? gain : gain_[l];
      best.scale[l] = better ? fitted : best.scale[l];
      best.zero_point[l] = better ? zero_point[l] : best.zero_point[l];
    }
  }

  Range best{};

 private:
  const Group& group_;
  const Limits& limits_;
  Lanes gain_{};
};

// The best of ranges as they are stored, compared by what they lose.
class Final {
 public:
  EQNET_INLINE Final(const Group& group, const Limits& limits, const Range& start)
      : best(start), group_(group), limits_(limits), loss_(loss(start)) {}

  // Takes `other` for all lanes that lose less with it.
  EQNET_INLINE void offer(const Range& other) {
    const Lanes others = loss(other);
    for (int l = 0; l < kWidth; ++l) {
      const bool better = others[l] < loss_[l];
      loss_[l] = better ? others[l] : loss_[l];
      best.scale[l] = better ? other.scale[l] : best.scale[l];
      best.zero_point[l] = better ? other.zero_point[l] : best.zero_point[l];
    }
  }

  Range best;

 private:
  EQNET_INLINE Lanes loss(const Range& range) const {
    Lanes lowest, highest, total{};
    for (int l = 0; l < kWidth; ++l) {
      lowest[l] = limits_.lowest - range.zero_point[l];
      highest[l] = limits_.highest - range.zero_point[l];
    }
    for (std::int64_t start = 0; start < group_.size; start += kRun) {
      const std::int64_t end = std::min(start + kRun, group_.size);
      float sum[kWidth] = {};
      for (std::int64_t i = start; i < end; ++i) {
        const float h = group_.h[i];
        for (int l = 0; l < kWidth; ++l) {
          const float x = group_.x[i][l];
          const float code = clamped(std::rint(x / range.scale[l]), lowest[l], highest[l]);
          const float error = code * range.scale[l] - x;
          sum[l] += h * (error * error);
        }
      }
      for (int l = 0; l < kWidth; ++l) total[l] += sum[l];
    }
    return total;
  }

  const Group& group_;
  const Limits& limits_;
  Lanes loss_;
};

// The smallest scale that clips nothing; the symmetric range reaches one code further down than up.
EQNET_INLINE Lanes tightest(const Extremes& x, const WeightFormat& format, const Limits& limits, const Range& full) {
  if (!format.symmetric) return full.scale;
  Lanes result;
  for (int l = 0; l < kWidth; ++l) {
    const float up = x.high[l] / limits.highest, down = x.low[l] / limits.lowest;
    const float scale = up > down ? up : down;
    result[l] = scale > 0.0f ? scale : full.scale[l];
  }
  return result;
}

// Scales from the largest one down, and zero points around the best.
EQNET_INLINE void try_candidates(const Group& group, const WeightFormat& format, const Limits& limits,
                                 const Extremes& x, const Range& full, Search& search) {
  Lanes scale = tightest(x, format, limits, full);
  const Lanes deviation = standard_deviation(group);
  Lanes ratio;
  for (int l = 0; l < kWidth; ++l) {
    const float suited = kMargin * kFinest[format.bits - 2] * deviation[l], most = kLargestShare * scale[l];
    const float share = (suited < most ? suited : most) / scale[l];
    ratio[l] = ninth_root(share > kSmallestShare ? share : kSmallestShare);
  }
  for (int step = 0; step < kSteps; ++step) {
    search.fit(scale, full.zero_point);
    for (int l = 0; l < kWidth; ++l) scale[l] *= ratio[l];
  }
  if (format.symmetric) return;
  const Range near = search.best;
  for (const float shift : {-1.0f, 1.0f}) {
    Lanes zero_point;
    for (int l = 0; l < kWidth; ++l) {
      zero_point[l] = clamped(near.zero_point[l] + shift, limits.lowest, limits.highest);
    }
    for (const float factor : kNear) {
      for (int l = 0; l < kWidth; ++l) scale[l] = near.scale[l] * factor;
      search.fit(scale, zero_point);
    }
  }
}

}  // namespace

EQNET_MULTIVERSION
void find_range(const Group& group, const WeightFormat& format, bool searched, Range& found, Largest& largest) {
  const Limits limits(format);
  const Extremes x = extremes(group);
  found = full_range(x, format, largest);
  if (!searched) return;
  Search search(group, limits);
  try_candidates(group, format, limits, x, found, search);
  Final final(group, limits, found);
  for (int refit = 0; refit <= kRefits; ++refit) {
    if (refit > 0) search.fit(Lanes(search.best.scale), Lanes(search.best.zero_point));
    final.offer({stored(search.best.scale, format.scale_type), search.best.zero_point});
  }
  found = final.best;
}

}  // namespace eqnet::lanes
