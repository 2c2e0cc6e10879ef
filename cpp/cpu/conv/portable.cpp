// The kernels in plain C++: what the others are tested against, and what runs where there are no others.
#include <algorithm>
#include <numeric>

#include "kernels.h"

namespace eqnet::conv {
namespace {

constexpr float kAboveCodes = 1e6f;  // and far from overflowing an integer

// Adding it leaves no bits for fractions, so that what the sum is rounded to is the nearest integer, half to even.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23

std::uint8_t code_of(float scaled, const Coding& coding) {
  const float bounded = std::min(std::max(-kAboveCodes, scaled), kAboveCodes);  // NaN gives the first
  const auto code = static_cast<std::int32_t>((bounded + kRounder) - kRounder) + coding.zero;
  return static_cast<std::uint8_t>(
      std::min<std::int32_t>(std::max<std::int32_t>(code, coding.low), coding.high));
}

// One value, of pixel i and channel c.
void write(float x, const Output& out, int i, int c) {
  const Finish& finish = *out.finish;
  if (finish.scaled) {
    out.code[0][i][c] = code_of(x, finish.coding[0]);
    return;
  }
  if (finish.has_residual) x += out.residual[i][c];
  if (finish.has_value) out.value[i][c] = std::min(std::max(x, finish.low), finish.high);
  for (int t = 0; t < finish.targets; ++t) {
    out.code[t][i][c] = code_of(x * finish.coding[t].inverse_scale, finish.coding[t]);
  }
}

// Adds weights times inputs of one segment for the 16 channels of a panel.
void accumulate(const std::uint8_t* input, const Segment& segment, const std::int8_t* weights,
                std::int32_t (&sum)[kLanes]) {
  const std::uint8_t* x = input + segment.offset;
  std::int32_t total[kLanes] = {};  // of its own, so that compilers keep it in registers
  for (std::int64_t quad = 0; quad < segment.quads; ++quad) {
    const std::int8_t* w = weights + quad * kLanes * kQuad;
    const std::int32_t x0 = x[quad * kQuad], x1 = x[quad * kQuad + 1], x2 = x[quad * kQuad + 2],
                       x3 = x[quad * kQuad + 3];
#pragma GCC unroll 1  // GCC would unroll it whole instead of using vectors, which takes six times as long
    for (int c = 0; c < kLanes; ++c) {
      total[c] += w[c * kQuad] * x0 + w[c * kQuad + 1] * x1 + w[c * kQuad + 2] * x2 + w[c * kQuad + 3] * x3;
    }
  }
  for (int c = 0; c < kLanes; ++c) sum[c] += total[c];
}

std::int32_t input_sum(const std::uint8_t* input, const Segment& segment) {
  return std::accumulate(input + segment.offset, input + segment.offset + segment.bytes, std::int32_t{0});
}

void dense(const DenseTile& tile, int pixels, int panels) {
  for (int v = 0; v < panels; ++v) {
    const int channels = v + 1 < panels ? kLanes : tile.output.tail;
    for (int i = 0; i < pixels; ++i) {
      std::int32_t sum[kLanes] = {}, inputs = 0;
      const std::int8_t* weights = tile.weights + v * tile.panel_bytes;
      for (std::int64_t s = 0; s < tile.segment_count; ++s) {
        accumulate(tile.input[i], tile.segments[s], weights, sum);
        if (tile.channels.offset != nullptr) inputs += input_sum(tile.input[i], tile.segments[s]);
        weights += tile.segments[s].quads * kLanes * kQuad;
      }
      for (int c = 0; c < channels; ++c) {
        const int at = v * kLanes + c;
        sum[c] += tile.channels.start[at];
        if (tile.channels.offset != nullptr) sum[c] += tile.channels.offset[at] * inputs;
        const float x = static_cast<float>(sum[c]) * tile.channels.multiplier[at] + tile.channels.bias[at];
        write(x, tile.output, i, at);
      }
    }
  }
}

void dense_grouped(const DenseTile& tile, int pixels, int panels) {
  for (int v = 0; v < panels; ++v) {
    const int channels = v + 1 < panels ? kLanes : tile.output.tail;
    for (int i = 0; i < pixels; ++i) {
      float x[kLanes];
      std::copy_n(tile.channels.bias + v * kLanes, kLanes, x);
      const std::int8_t* weights = tile.weights + v * tile.panel_bytes;
      for (std::int64_t s = 0; s < tile.segment_count; ++s) {
        std::int32_t sum[kLanes] = {};
        accumulate(tile.input[i], tile.segments[s], weights, sum);
        const std::int32_t inputs =
            tile.channels.offset != nullptr ? input_sum(tile.input[i], tile.segments[s]) : 0;
        weights += tile.segments[s].quads * kLanes * kQuad;
        for (int c = 0; c < channels; ++c) {
          const std::int64_t at = s * tile.segment_lanes + v * kLanes + c;
          sum[c] += tile.channels.start[at];
          if (tile.channels.offset != nullptr) sum[c] += tile.channels.offset[at] * inputs;
          x[c] += static_cast<float>(sum[c]) * tile.channels.multiplier[at];
        }
      }
      for (int c = 0; c < channels; ++c) write(x[c], tile.output, i, v * kLanes + c);
    }
  }
}

void depthwise(const DepthwiseTile& tile) {
  const std::int64_t bytes = tile.tap_quads * kLanes * kQuad;
  for (int i = 0; i < tile.pixels; ++i) {
    std::int32_t sum[kLanes];
    std::copy_n(tile.channels.start, kLanes, sum);
    for (std::int64_t t = 0; t < tile.tap_quads * kQuad; ++t) {
      const std::int8_t* w = tile.weights + t / kQuad * kLanes * kQuad + t % kQuad;
      const std::uint8_t* x = tile.input[i] + tile.taps[t];
#pragma GCC unroll 1
      for (int c = 0; c < kLanes; ++c) {
        const std::int32_t rest = tile.wide ? w[bytes + c * kQuad] : 0;
        sum[c] += (w[c * kQuad] + 2 * rest) * x[c];
      }
    }
    for (int c = 0; c < tile.output.tail; ++c) {
      write(static_cast<float>(sum[c]) * tile.channels.multiplier[c] + tile.channels.bias[c], tile.output, i, c);
    }
  }
}

void finish_values(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code,
                   float* value) {
  for (std::int64_t k = 0; k < count; ++k) {
    if (finish.has_value) value[k] = std::min(std::max(values[k], finish.low), finish.high);
    for (int t = 0; t < finish.targets; ++t) {
      code[t][k] = code_of(values[k] / finish.coding[t].scale, finish.coding[t]);
    }
  }
}

}  // namespace

const Kernels kPortableKernels = {4, {0, 8, 8, 8, 8}, 4, 1, false, dense, dense_grouped, depthwise, finish_values};

}  // namespace eqnet::conv
