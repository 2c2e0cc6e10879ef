#include <algorithm>
#include <cstring>

#include "layers.h"

namespace eqnet::conv {
namespace {

constexpr std::int64_t kPartMacs = 200'000;        // work that is worth handing to a thread: some microseconds
constexpr std::int64_t kBlockBytes = 96 * 1024;    // of inputs that stay in a cache while all panels read them

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

Dense::Dense(const ConvShape& shape, const ConvWeights& weights, const Kernels& kernels)
    : shape_(shape), kernels_(kernels) {
  group_size_ = std::min(weights.group_size, shape.cols());
  by_segment_ = group_size_ < shape.cols();
  gathers_ = by_segment_ && shape.kernel_h * shape.kernel_w > 1;
  panels_ = divide_up(shape.out_channels / shape.groups, kLanes);
  plan_segments();
  fill(weights);
}

// Columns are counted as in the weight: channel, row, column of the kernel.
void Dense::plan_segments() {
  const std::int64_t channels = shape_.in_channels / shape_.groups, height = shape_.kernel_h, width = shape_.kernel_w;
  if (by_segment_) {
    for (std::int64_t k = 0; k < shape_.cols(); ++k) {
      if (k % group_size_ == 0) columns_.emplace_back();
      columns_.back().push_back(static_cast<std::int32_t>(k));
    }
    return;
  }
  // Neighbouring pixels are neighbours in memory too, unless other groups or pixels are between them.
  const bool whole_rows = shape_.groups == 1 && shape_.dilation_w == 1;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      if (x == 0 || !whole_rows) columns_.emplace_back();
      for (std::int64_t c = 0; c < channels; ++c) {
        columns_.back().push_back(static_cast<std::int32_t>((c * height + y) * width + x));
      }
    }
  }
}

void Dense::fill(const ConvWeights& weights) {
  const std::int64_t cols = shape_.cols(), scales = divide_up(cols, group_size_), lanes = panels_ * kLanes;
  const std::int64_t per_group = shape_.out_channels / shape_.groups;
  std::int64_t quads = 0;
  for (const auto& segment : columns_) quads += divide_up(static_cast<std::int64_t>(segment.size()), kQuad);
  panel_bytes_ = quads * kLanes * kQuad;
  weights_.assign(shape_.groups * panels_ * panel_bytes_, 0);
  base_bias_.assign(shape_.groups * lanes, 0.0f);
  base_multiplier_.assign(shape_.groups * scales * lanes, 0.0f);
  start_.assign(base_multiplier_.size(), 0);
  offset_.assign(base_multiplier_.size(), 0);
  bool has_offset = false;
  for (std::int64_t row = 0; row < shape_.out_channels; ++row) {
    const std::int64_t group = row / per_group, lane = row % per_group;
    const std::int16_t* weight = weights.weight + row * cols;
    base_bias_[group * lanes + lane] = weights.bias[row];
    for (std::int64_t g = 0; g < scales; ++g) {
      const std::int64_t first = g * group_size_, last = std::min(first + group_size_, cols);
      const auto [least, most] = std::minmax_element(weight + first, weight + last);
      std::int32_t sum = 0;
      for (std::int64_t k = first; k < last; ++k) sum += weight[k];
      const std::int64_t at = (group * scales + g) * lanes + lane;
      offset_[at] = *least < -128 ? *least + 128 : *most > 127 ? *most - 127 : 0;
      start_[at] = -weights.input_zero * sum;
      if (kernels_.signed_inputs) start_[at] += 128 * (sum - offset_[at] * static_cast<std::int32_t>(last - first));
      has_offset |= offset_[at] != 0;
      base_multiplier_[at] = weights.scale[row * scales + g] * weights.input_scale;
    }
    std::int8_t* panel = weights_.data() + (group * panels_ + lane / kLanes) * panel_bytes_;
    for (const auto& segment : columns_) {
      for (std::size_t j = 0; j < segment.size(); ++j) {
        const std::int64_t g = segment[j] / group_size_;
        panel[(j / kQuad * kLanes + lane % kLanes) * kQuad + j % kQuad] =
            static_cast<std::int8_t>(weight[segment[j]] - offset_[(group * scales + g) * lanes + lane]);
      }
      panel += divide_up(static_cast<std::int64_t>(segment.size()), kQuad) * kLanes * kQuad;
    }
  }
  if (!has_offset) offset_.clear();
}

// Bytes from a pixel to the input of a column.
std::int64_t Dense::offset(std::int64_t column, const CodeLayout& layout) const {
  const std::int64_t x = column % shape_.kernel_w, y = column / shape_.kernel_w % shape_.kernel_h;
  return y * shape_.dilation_h * layout.row() + x * shape_.dilation_w * layout.channels +
         column / (shape_.kernel_w * shape_.kernel_h);
}

std::vector<Segment> Dense::segments(const CodeLayout& layout) const {
  std::vector<Segment> result;
  std::int64_t gathered = 0;
  for (const auto& columns : columns_) {
    const auto bytes = static_cast<std::int64_t>(columns.size());
    const std::int64_t quads = divide_up(bytes, kQuad);
    result.push_back({gathers_ ? gathered : offset(columns.front(), layout), quads, bytes});
    gathered += quads * kQuad;
  }
  return result;
}

Dense::Split Dense::split(const ConvCall& call, std::int64_t parts) const {
  const std::int64_t pixels =
      call.images * shape_.out_height(call.layout.height) * shape_.out_width(call.layout.width);
  const std::int64_t tiles = divide_up(pixels, kMaxPixels), groups = divide_up(panels_, by_segment_ ? 1 : kernels_.panels);
  if (parts <= 1) return {1, 1};
  // Few pixels: threads would all read all weights, so they share the channels instead.
  if (shape_.groups == 1 && groups >= parts && tiles < 4 * parts) return {1, parts};
  return {std::max<std::int64_t>(1, std::min(parts, tiles)), 1};
}

std::int64_t Dense::parts(const ConvCall& call, std::int64_t wanted) const {
  const std::int64_t macs = call.images * shape_.out_height(call.layout.height) *
                            shape_.out_width(call.layout.width) * shape_.out_channels * shape_.cols();
  const Split found = split(call, std::min(wanted, macs / kPartMacs));
  return found.pixels * found.panels;
}

void Dense::run(const ConvCall& call, std::int64_t part, std::int64_t parts) const {
  const Split split = this->split(call, parts);
  const std::int64_t pixels =
      call.images * shape_.out_height(call.layout.height) * shape_.out_width(call.layout.width);
  const std::vector<Segment> segments = this->segments(call.layout);
  const std::int64_t pixel_part = part / split.panels, panel_part = part % split.panels;
  const std::int64_t first = pixels * pixel_part / split.pixels, last = pixels * (pixel_part + 1) / split.pixels;
  const int widest = by_segment_ ? 1 : kernels_.panels;
  const std::int64_t panel_groups = divide_up(panels_, widest);
  const std::int64_t first_panel = panel_groups * panel_part / split.panels * widest;
  const std::int64_t last_panel = std::min(panel_groups * (panel_part + 1) / split.panels * widest, panels_);
  const std::int64_t pixel_bytes = shape_.stride_h * shape_.stride_w * shape_.in_channels;
  const std::int64_t block = std::max<std::int64_t>(kBlockBytes / pixel_bytes, 8 * kMaxPixels);
  const std::int64_t blocks = divide_up(last - first, block);
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t begin = first + (last - first) * b / blocks, end = first + (last - first) * (b + 1) / blocks;
    for (std::int64_t group = 0; group < shape_.groups; ++group) {
      for (std::int64_t panel = first_panel; panel < last_panel; panel += widest) {
        const int panels = static_cast<int>(std::min<std::int64_t>(widest, last_panel - panel));
        run_panels(call, group, panel, panels, begin, end, segments);
      }
    }
  }
}

void Dense::run_panels(const ConvCall& call, std::int64_t group, std::int64_t first_panel, int panels,
                       std::int64_t first, std::int64_t last, const std::vector<Segment>& segments) const {
  const std::int64_t per_group = shape_.out_channels / shape_.groups, lanes = panels_ * kLanes;
  const std::int64_t scales = by_segment_ ? static_cast<std::int64_t>(segments.size()) : 1;
  const std::int64_t at = group * scales * lanes + first_panel * kLanes;
  DenseTile tile;
  tile.segments = segments.data();
  tile.segment_count = static_cast<std::int64_t>(segments.size());
  tile.weights = weights_.data() + (group * panels_ + first_panel) * panel_bytes_;
  tile.panel_bytes = panel_bytes_;
  tile.channels = {start_.data() + at, offset_.empty() ? nullptr : offset_.data() + at, multiplier_.data() + at,
                   bias_.data() + group * lanes + first_panel * kLanes};
  tile.segment_lanes = lanes;
  tile.output.finish = &finish_;
  tile.output.tail = static_cast<int>(std::min<std::int64_t>(per_group - (first_panel + panels - 1) * kLanes, kLanes));
  const int most = by_segment_ ? kernels_.grouped_pixels : kernels_.pixels[panels];
  const std::int64_t tiles = divide_up(last - first, most);
  std::vector<std::uint8_t> patches(gathers_ ? most * panel_bytes_ / kLanes : 0);
  Cursor cursor(shape_, call, finish_, first, group * (shape_.in_channels / shape_.groups),
                group * per_group + first_panel * kLanes);
  for (std::int64_t t = 0; t < tiles; ++t) {
    // Tiles of about the same size: a last one of a single pixel would cost nearly as much as a full one.
    const int pixels = static_cast<int>((last - first) * (t + 1) / tiles - (last - first) * t / tiles);
    cursor.take(pixels, tile.input, tile.output);
    if (gathers_) {
      for (int i = 0; i < pixels; ++i) {
        std::uint8_t* patch = patches.data() + i * panel_bytes_ / kLanes;
        for (std::size_t s = 0; s < columns_.size(); ++s) {
          std::uint8_t* to = patch + segments[s].offset;
          for (const std::int32_t column : columns_[s]) *to++ = tile.input[i][offset(column, call.layout)];
        }
        tile.input[i] = patch;
      }
    }
    if (by_segment_) {
      kernels_.dense_grouped(tile, pixels, panels);
    } else {
      kernels_.dense(tile, pixels, panels);
    }
  }
}

}  // namespace eqnet::conv
