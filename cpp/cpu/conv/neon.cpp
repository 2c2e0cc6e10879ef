#include <algorithm>
#include <numeric>

#include "finish_neon.h"

namespace eqnet::conv {
namespace {

// Dot products take signed bytes: inputs are read less 128, which the constants of the channels make up for.
inline int8x16_t four_inputs(const std::uint8_t* at) {
  std::uint32_t bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  return vreinterpretq_s8_u32(vdupq_n_u32(bytes ^ 0x80808080u));
}

template <int P>
inline void accumulate(int32x4_t (&sum)[P][4], const DenseTile& tile, const Segment& segment,
                       const std::int8_t*& weights) {
  std::int64_t at = segment.offset;
  for (std::int64_t k = 0; k < segment.quads; ++k, at += kQuad, weights += kLanes * kQuad) {
    const int8x16_t w[4] = {vld1q_s8(weights), vld1q_s8(weights + 16), vld1q_s8(weights + 32),
                            vld1q_s8(weights + 48)};
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) {
      const int8x16_t x = four_inputs(tile.input[i] + at);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) sum[i][q] = vdotq_s32(sum[i][q], w[q], x);
    }
  }
}

template <int P>
inline void begin(int32x4_t (&sum)[P][4], const std::int32_t* start) {
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) sum[i][q] = vld1q_s32(start + q * kQuarter);
  }
}

template <int P>
void add_offsets(int32x4_t (&sum)[P][4], const DenseTile& tile, const Segment* segments, std::int64_t count,
                 const std::int32_t* offset) {
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) {
    std::int32_t total = 0;
    for (std::int64_t s = 0; s < count; ++s) {
      const std::uint8_t* x = tile.input[i] + segments[s].offset;
      total = std::accumulate(x, x + segments[s].bytes, total);
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) sum[i][q] = vmlaq_n_s32(sum[i][q], vld1q_s32(offset + q * kQuarter), total);
  }
}

template <int P>
void dense(const DenseTile& tile) {
  const Channels& channels = tile.channels;
  int32x4_t sum[P][4];
  begin<P>(sum, channels.start);
  const std::int8_t* weights = tile.weights;
  for (std::int64_t s = 0; s < tile.segment_count; ++s) accumulate<P>(sum, tile, tile.segments[s], weights);
  if (channels.offset != nullptr) add_offsets<P>(sum, tile, tile.segments, tile.segment_count, channels.offset);
  const Values bias = load(channels.bias, kLanes);
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) finish_panel(sum[i], bias, channels.multiplier, tile.output, i, tile.output.tail);
}

template <int P>
void dense_grouped(const DenseTile& tile) {
  const Channels& channels = tile.channels;
  const std::int8_t* weights = tile.weights;
  Values x[P];
  for (int i = 0; i < P; ++i) x[i] = load(channels.bias, kLanes);
  for (std::int64_t s = 0; s < tile.segment_count; ++s) {
    const std::int64_t at = s * tile.segment_lanes;
    int32x4_t sum[P][4];
    begin<P>(sum, channels.start + at);
    accumulate<P>(sum, tile, tile.segments[s], weights);
    if (channels.offset != nullptr) add_offsets<P>(sum, tile, tile.segments + s, 1, channels.offset + at);
    const float* multiplier = channels.multiplier + at;
    if (s + 1 == tile.segment_count) {
      for (int i = 0; i < P; ++i) finish_panel(sum[i], x[i], multiplier, tile.output, i, tile.output.tail);
      return;
    }
    for (int i = 0; i < P; ++i) {
      for (int q = 0; q < 4; ++q) {
        const float32x4_t factor = vld1q_f32(multiplier + q * kQuarter);
        x[i].part[q] = vfmaq_f32(x[i].part[q], vcvtq_f32_s32(sum[i][q]), factor);
      }
    }
  }
}

using Function = void (*)(const DenseTile&);

constexpr Function kDense[4] = {dense<1>, dense<2>, dense<3>, dense<4>};
constexpr Function kGrouped[4] = {dense_grouped<1>, dense_grouped<2>, dense_grouped<3>, dense_grouped<4>};

void dense_neon(const DenseTile& tile, int pixels, int) { kDense[pixels - 1](tile); }
void dense_grouped_neon(const DenseTile& tile, int pixels, int) { kGrouped[pixels - 1](tile); }

// Two pixels at a time, 16 channels.
void depthwise_neon(const DepthwiseTile& tile) {
  const Values bias = load(tile.channels.bias, kLanes);
  const std::int64_t bytes = tile.tap_quads * kLanes * kQuad;
  for (int i = 0; i < tile.pixels; i += 2) {
    int32x4_t sum[2][4];
    begin<2>(sum, tile.channels.start);
    for (std::int64_t quad = 0; quad < tile.tap_quads; ++quad) {
      const std::int8_t* weights = tile.weights + quad * kLanes * kQuad;
      const int8x16x4_t w = vld4q_s8(weights);  // by tap
      const int8x16x4_t rest = tile.wide ? vld4q_s8(weights + bytes) : int8x16x4_t{};
#pragma GCC unroll 4
      for (int t = 0; t < kQuad; ++t) {
        int16x8_t low = vmovl_s8(vget_low_s8(w.val[t])), high = vmovl_high_s8(w.val[t]);
        if (tile.wide) {
          low = vaddq_s16(low, vshll_n_s8(vget_low_s8(rest.val[t]), 1));
          high = vaddq_s16(high, vshll_high_n_s8(rest.val[t], 1));
        }
#pragma GCC unroll 2
        for (int p = 0; p < 2; ++p) {
          const uint8x16_t x = vld1q_u8(tile.input[i + p] + tile.taps[quad * kQuad + t]);
          const int16x8_t x_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x)));
          const int16x8_t x_high = vreinterpretq_s16_u16(vmovl_high_u8(x));
          sum[p][0] = vmlal_s16(sum[p][0], vget_low_s16(x_low), vget_low_s16(low));
          sum[p][1] = vmlal_high_s16(sum[p][1], x_low, low);
          sum[p][2] = vmlal_s16(sum[p][2], vget_low_s16(x_high), vget_low_s16(high));
          sum[p][3] = vmlal_high_s16(sum[p][3], x_high, high);
        }
      }
    }
    for (int p = 0; p < 2; ++p) {
      finish_panel(sum[p], bias, tile.channels.multiplier, tile.output, i + p, tile.output.tail);
    }
  }
}

void finish_neon(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code,
                 float* value) {
  for (std::int64_t k = 0; k < count; k += kLanes) {
    const int left = static_cast<int>(std::min<std::int64_t>(count - k, kLanes));
    const Values x = load(values + k, left);
    if (finish.has_value) store(x, finish, value + k, left);
    for (int t = 0; t < finish.targets; ++t) {
      Values scaled;
      for (int q = 0; q < 4; ++q) scaled.part[q] = vdivq_f32(x.part[q], vdupq_n_f32(finish.coding[t].scale));
      store(codes<true>(scaled, finish.coding[t]), code[t] + k, left);
    }
  }
}

}  // namespace

const Kernels kNeonKernels = {1, {0, 4}, 4, 1, true, dense_neon, dense_grouped_neon, depthwise_neon, finish_neon};

}  // namespace eqnet::conv
