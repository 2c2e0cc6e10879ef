#include "finish_avx2.h"
#include "kernels_avx2.h"

namespace eqnet::conv {
namespace {

inline __m256i four_inputs(const std::uint8_t* at) {
  int bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  return _mm256_set1_epi32(bytes);
}

template <int P>
inline void accumulate(__m256i (&sum)[P][2], const DenseTile& tile, const Segment& segment,
                       const std::int8_t*& weights) {
  std::int64_t at = segment.offset;
  for (std::int64_t k = 0; k < segment.quads; ++k, at += kQuad, weights += kLanes * kQuad) {
    const Quad w[2] = {signed_weights(weights), signed_weights(weights + kHalf * kQuad)};
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) {
      const Quad x = inputs(four_inputs(tile.input[i] + at));
      sum[i][0] = add_products(sum[i][0], x, w[0]);
      sum[i][1] = add_products(sum[i][1], x, w[1]);
    }
  }
}

inline std::int32_t input_sum(const std::uint8_t* input, const Segment& segment) {
  std::int32_t sum = 0;
  for (std::int64_t k = 0; k < segment.bytes; ++k) sum += input[segment.offset + k];
  return sum;
}

template <int P>
inline void add_offsets(__m256i (&sum)[P][2], const DenseTile& tile, const Segment* segments, std::int64_t count,
                        const std::int32_t* offset) {
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) {
    std::int32_t total = 0;
    for (std::int64_t s = 0; s < count; ++s) total += input_sum(tile.input[i], segments[s]);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i factor = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offset + h * kHalf));
      sum[i][h] = _mm256_add_epi32(sum[i][h], _mm256_mullo_epi32(_mm256_set1_epi32(total), factor));
    }
  }
}

template <int P>
inline void begin(__m256i (&sum)[P][2], const std::int32_t* start) {
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) {
    sum[i][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start));
    sum[i][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + kHalf));
  }
}

// x = sum * multiplier + x
template <int P>
inline void scale(const __m256i (&sum)[P][2], const float* multiplier, __m256 (&x)[P][2]) {
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      x[i][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[i][h]), _mm256_loadu_ps(multiplier + h * kHalf), x[i][h]);
    }
  }
}

template <int P>
inline void begin(__m256 (&x)[P][2], const float* bias) {
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) {
    x[i][0] = _mm256_loadu_ps(bias);
    x[i][1] = _mm256_loadu_ps(bias + kHalf);
  }
}

template <int P>
void dense(const DenseTile& tile) {
  __m256i sum[P][2];
  begin<P>(sum, tile.channels.start);
  const std::int8_t* weights = tile.weights;
  for (std::int64_t s = 0; s < tile.segment_count; ++s) accumulate<P>(sum, tile, tile.segments[s], weights);
  if (tile.channels.offset != nullptr) {
    add_offsets<P>(sum, tile, tile.segments, tile.segment_count, tile.channels.offset);
  }
  __m256 x[P][2];
  begin<P>(x, tile.channels.bias);
  scale<P>(sum, tile.channels.multiplier, x);
  finish_tile<P>(x, tile.output);
}

template <int P>
void dense_grouped(const DenseTile& tile) {
  __m256 x[P][2];
  begin<P>(x, tile.channels.bias);
  const std::int8_t* weights = tile.weights;
  for (std::int64_t s = 0; s < tile.segment_count; ++s) {
    const std::int64_t at = s * tile.segment_lanes;
    __m256i sum[P][2];
    begin<P>(sum, tile.channels.start + at);
    accumulate<P>(sum, tile, tile.segments[s], weights);
    if (tile.channels.offset != nullptr) {
      add_offsets<P>(sum, tile, tile.segments + s, 1, tile.channels.offset + at);
    }
    scale<P>(sum, tile.channels.multiplier + at, x);
  }
  finish_tile<P>(x, tile.output);
}

using Function = void (*)(const DenseTile&);

constexpr Function kDense[4] = {dense<1>, dense<2>, dense<3>, dense<4>};
constexpr Function kGrouped[4] = {dense_grouped<1>, dense_grouped<2>, dense_grouped<3>, dense_grouped<4>};

}  // namespace

void dense_avx2(const DenseTile& tile, int pixels, int) { kDense[pixels - 1](tile); }
void dense_grouped_avx2(const DenseTile& tile, int pixels, int) { kGrouped[pixels - 1](tile); }

}  // namespace eqnet::conv
