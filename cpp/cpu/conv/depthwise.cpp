#include <algorithm>

#include "layers.h"

namespace eqnet::conv {
namespace {

constexpr std::int64_t kPartMacs = 60'000;  // work that is worth handing to a thread: some microseconds

}  // namespace

Depthwise::Depthwise(const ConvShape& shape, const ConvWeights& weights, const Kernels& kernels)
    : shape_(shape), kernels_(kernels) {
  const std::int64_t lanes = kernels.depthwise_lanes, width = lanes * kLanes, taps = shape.cols();
  tap_quads_ = (taps + kQuad - 1) / kQuad;
  block_lanes_ = width;
  block_bytes_ = tap_quads_ * width * kQuad;
  for (std::int64_t first = 0; first < shape.out_channels; first += width) {
    const std::int64_t channels = std::min(width, shape.out_channels - first);
    int fold = 1;
    while (2 * fold <= lanes && channels * 2 * fold <= width) fold *= 2;
    blocks_.push_back({first, static_cast<int>(channels), fold});
  }
  const std::int64_t blocks = static_cast<std::int64_t>(blocks_.size());
  const std::int16_t* weight = weights.weight;
  wide_ = std::any_of(weight, weight + shape.out_channels * taps, [](int w) { return w < -128 || w > 127; });
  weights_.assign(blocks * (1 + wide_) * block_bytes_, 0);
  start_.assign(blocks * width, 0);
  base_multiplier_.assign(blocks * width, 0.0f);
  base_bias_.assign(blocks * width, 0.0f);
  for (std::int64_t b = 0; b < blocks; ++b) {
    for (std::int64_t dword = 0; dword < width; ++dword) {
      const std::int64_t q = dword / (lanes * 4), lane = dword / 4 % lanes % (lanes / blocks_[b].fold);
      const std::int64_t channel = 16 * lane + 4 * q + dword % 4;
      if (channel >= blocks_[b].channels) continue;
      const std::int64_t row = blocks_[b].first + channel, at = b * width + dword;
      std::int8_t* low = weights_.data() + b * (1 + wide_) * block_bytes_;
      std::int32_t sum = 0;
      for (std::int64_t t = 0; t < taps; ++t) {
        const std::int32_t w = weight[row * taps + t], rest = wide_ ? w / 3 : 0;
        const std::int64_t byte = (t / kQuad * width + dword) * kQuad + t % kQuad;
        low[byte] = static_cast<std::int8_t>(w - 2 * rest);
        if (wide_) low[block_bytes_ + byte] = static_cast<std::int8_t>(rest);
        sum += w;
      }
      start_[at] = -weights.input_zero * sum;
      base_multiplier_[at] = weights.scale[row] * weights.input_scale;
      base_bias_[at] = weights.bias[row];
    }
  }
}

std::int64_t Depthwise::parts(const ConvCall& call, std::int64_t wanted) const {
  const std::int64_t rows = call.images * shape_.out_height(call.layout.height);
  const std::int64_t macs = rows * shape_.out_width(call.layout.width) * shape_.out_channels * shape_.cols();
  return std::max<std::int64_t>(1, std::min({wanted, macs / kPartMacs, rows}));
}

void Depthwise::run(const ConvCall& call, std::int64_t part, std::int64_t parts) const {
  const std::int64_t rows = call.images * shape_.out_height(call.layout.height);
  const std::int64_t width = shape_.out_width(call.layout.width);
  std::vector<std::int64_t> taps(tap_quads_ * kQuad, 0);
  for (std::int64_t t = 0; t < shape_.cols(); ++t) {
    taps[t] = t / shape_.kernel_w * shape_.dilation_h * call.layout.row() +
              t % shape_.kernel_w * shape_.dilation_w * call.layout.channels;
  }
  DepthwiseTile tile;
  tile.taps = taps.data();
  tile.tap_quads = tap_quads_;
  tile.wide = wide_;
  tile.output.finish = &finish_;
  for (std::int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      const Block& block = blocks_[b];
      tile.weights = weights_.data() + b * (1 + wide_) * block_bytes_;
      tile.channels = {start_.data() + b * block_lanes_, nullptr, multiplier_.data() + b * block_lanes_,
                       bias_.data() + b * block_lanes_};
      tile.fold = block.fold;
      tile.output.tail = block.channels;
      Cursor cursor(shape_, call, finish_, row * width, block.first, block.first);
      for (std::int64_t x = 0; x < width; x += kMaxPixels) {
        const int pixels = static_cast<int>(std::min<std::int64_t>(kMaxPixels, width - x)), unit = 2 * block.fold;
        tile.pixels = (pixels + unit - 1) / unit * unit;
        cursor.take(pixels, tile.input, tile.output);
        for (int i = pixels; i < tile.pixels; ++i) {
          tile.input[i] = tile.input[i - 1];
          for (int t = 0; t < finish_.targets; ++t) tile.output.code[t][i] = tile.output.code[t][i - 1];
          tile.output.value[i] = tile.output.value[i - 1];
          tile.output.residual[i] = tile.output.residual[i - 1];
        }
        kernels_.depthwise(tile);
      }
    }
  }
}

}  // namespace eqnet::conv
