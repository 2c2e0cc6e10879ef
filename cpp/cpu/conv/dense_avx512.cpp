#include <cstring>
#include <utility>

#include "finish_avx512.h"
#include "kernels_avx512.h"

namespace eqnet::conv {
namespace {

inline __m512i four_inputs(const std::uint8_t* at) {
  int bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

// The sum of a pixel's inputs in one segment.
inline std::int32_t input_sum(const std::uint8_t* input, const Segment& segment) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512();
  for (std::int64_t k = 0; k < segment.bytes; k += 64) {
    const std::int64_t left = segment.bytes - k;
    const __mmask64 mask = left < 64 ? ~std::uint64_t{0} >> (64 - left) : ~std::uint64_t{0};
    sum = _mm512_dpbusd_epi32(sum, _mm512_maskz_loadu_epi8(mask, input + segment.offset + k), ones);
  }
  return _mm512_reduce_add_epi32(sum);
}

template <int P, int V>
inline void accumulate(__m512i (&sum)[P][V], const DenseTile& tile, const Segment& segment,
                       const std::int8_t*& weights) {
  const std::int64_t stride = tile.panel_bytes;
  std::int64_t at = segment.offset;
  for (std::int64_t k = 0; k < segment.quads; ++k, at += kQuad, weights += kLanes * kQuad) {
    __m512i w[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) w[v] = _mm512_loadu_si512(weights + v * stride);
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) {
      const __m512i x = four_inputs(tile.input[i] + at);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], x, w[v]);
    }
  }
}

template <int P, int V>
inline void add_offsets(__m512i (&sum)[P][V], const DenseTile& tile, const Segment* segments, std::int64_t count,
                        const std::int32_t* offset) {
#pragma GCC unroll 8
  for (int i = 0; i < P; ++i) {
    std::int32_t inputs = 0;
    for (std::int64_t s = 0; s < count; ++s) inputs += input_sum(tile.input[i], segments[s]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __m512i correction =
          _mm512_mullo_epi32(_mm512_set1_epi32(inputs), _mm512_loadu_si512(offset + v * kLanes));
      sum[i][v] = _mm512_add_epi32(sum[i][v], correction);
    }
  }
}

template <int P, int V>
void dense(const DenseTile& tile) {
  const Channels& channels = tile.channels;
  __m512i sum[P][V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    const __m512i start = _mm512_loadu_si512(channels.start + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) sum[i][v] = start;
  }
  const std::int8_t* weights = tile.weights;
  for (std::int64_t s = 0; s < tile.segment_count; ++s) accumulate<P, V>(sum, tile, tile.segments[s], weights);
  if (channels.offset != nullptr) {
    add_offsets<P, V>(sum, tile, tile.segments, tile.segment_count, channels.offset);
  }
  __m512 x[P][V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    const __m512 multiplier = _mm512_loadu_ps(channels.multiplier + v * kLanes);
    const __m512 bias = _mm512_loadu_ps(channels.bias + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) x[i][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i][v]), multiplier, bias);
  }
  finish_tile<P, V>(x, tile.output);
}

template <int P, int V>
void dense_grouped(const DenseTile& tile) {
  Channels channels = tile.channels;
  __m512 x[P][V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) x[i][v] = _mm512_loadu_ps(channels.bias + v * kLanes);
  }
  const std::int8_t* weights = tile.weights;
  for (std::int64_t s = 0; s < tile.segment_count; ++s) {
    __m512i sum[P][V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
#pragma GCC unroll 8
      for (int i = 0; i < P; ++i) sum[i][v] = _mm512_loadu_si512(channels.start + v * kLanes);
    }
    accumulate<P, V>(sum, tile, tile.segments[s], weights);
    if (channels.offset != nullptr) {
      add_offsets<P, V>(sum, tile, tile.segments + s, 1, channels.offset);
      channels.offset += tile.segment_lanes;
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __m512 multiplier = _mm512_loadu_ps(channels.multiplier + v * kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < P; ++i) x[i][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[i][v]), multiplier, x[i][v]);
    }
    channels.start += tile.segment_lanes;
    channels.multiplier += tile.segment_lanes;
  }
  finish_tile<P, V>(x, tile.output);
}

using Function = void (*)(const DenseTile&);

template <int V, int... P>
constexpr void fill(Function* row, std::integer_sequence<int, P...>) {
  ((row[P] = dense<P + 1, V>), ...);
}

struct Table {
  Function entry[kMaxPanels][kMaxPixels]{};
  constexpr Table() {
    fill<1>(entry[0], std::make_integer_sequence<int, 8>{});
    fill<2>(entry[1], std::make_integer_sequence<int, 8>{});
    fill<3>(entry[2], std::make_integer_sequence<int, 8>{});
    fill<4>(entry[3], std::make_integer_sequence<int, 6>{});
  }
};
constexpr Table kTable;

constexpr Function kGrouped[kMaxPixels] = {dense_grouped<1, 1>, dense_grouped<2, 1>, dense_grouped<3, 1>,
                                           dense_grouped<4, 1>, dense_grouped<5, 1>, dense_grouped<6, 1>,
                                           dense_grouped<7, 1>, dense_grouped<8, 1>};

}  // namespace

void dense_avx512(const DenseTile& tile, int pixels, int panels) { kTable.entry[panels - 1][pixels - 1](tile); }

void dense_grouped_avx512(const DenseTile& tile, int pixels, int) { kGrouped[pixels - 1](tile); }

}  // namespace eqnet::conv
