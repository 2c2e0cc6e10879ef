#include "finish_avx512.h"
#include "kernels_avx512.h"

namespace eqnet::conv {
namespace {

constexpr int kVectorLanes = 4;  // of 16 bytes

inline __m128i lane(const std::uint8_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

// One tap of F pixels.
template <int F>
inline __m512i load(const std::uint8_t* const* pixels, std::int64_t tap) {
  if constexpr (F == 1) return _mm512_loadu_si512(pixels[0] + tap);
  if constexpr (F == 2) {
    const auto half = [&](int i) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixels[i] + tap)); };
    return _mm512_inserti64x4(_mm512_castsi256_si512(half(0)), half(1), 1);
  }
  __m512i x = _mm512_castsi128_si512(lane(pixels[0] + tap));
  x = _mm512_mask_broadcast_i32x4(x, 0x00f0, lane(pixels[1 % F] + tap));
  x = _mm512_mask_broadcast_i32x4(x, 0x0f00, lane(pixels[2 % F] + tap));
  return _mm512_mask_broadcast_i32x4(x, 0xf000, lane(pixels[3 % F] + tap));
}

template <int F>
inline void store(__m512i bytes, std::uint8_t* const* to, int channels) {
  if constexpr (F == 1) {
    if (channels == 64) return _mm512_storeu_si512(to[0], bytes);
    _mm512_mask_storeu_epi8(to[0], ~std::uint64_t{0} >> (64 - channels), bytes);
  } else if constexpr (F == 2) {
    const __mmask32 mask = ~std::uint32_t{0} >> (32 - channels);
    _mm256_mask_storeu_epi8(to[0], mask, _mm512_castsi512_si256(bytes));
    _mm256_mask_storeu_epi8(to[1], mask, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    const __mmask16 mask = static_cast<__mmask16>(0xffff >> (16 - channels));
    _mm_mask_storeu_epi8(to[0], mask, _mm512_castsi512_si128(bytes));
    _mm_mask_storeu_epi8(to[1], mask, _mm512_extracti32x4_epi32(bytes, 1));
    _mm_mask_storeu_epi8(to[2], mask, _mm512_extracti32x4_epi32(bytes, 2));
    _mm_mask_storeu_epi8(to[3], mask, _mm512_extracti32x4_epi32(bytes, 3));
  }
}

// From vectors of every fourth dword to vectors of 16 consecutive channels.
inline void in_order(__m512 (&x)[4]) {
  const __m512 a = _mm512_shuffle_f32x4(x[0], x[1], 0x44), b = _mm512_shuffle_f32x4(x[2], x[3], 0x44);
  const __m512 c = _mm512_shuffle_f32x4(x[0], x[1], 0xee), d = _mm512_shuffle_f32x4(x[2], x[3], 0xee);
  x[0] = _mm512_shuffle_f32x4(a, b, 0x88);
  x[1] = _mm512_shuffle_f32x4(a, b, 0xdd);
  x[2] = _mm512_shuffle_f32x4(c, d, 0x88);
  x[3] = _mm512_shuffle_f32x4(c, d, 0xdd);
}

// What finish_tile does, for the F pixels of one set of vectors, the first of which is `pixel`.
template <int F>
void finish_unscaled(__m512 (&x)[4], const Output& out, int pixel) {
  const Finish& finish = *out.finish;
  in_order(x);
  for (int l = 0; l < kVectorLanes; ++l) {
    const int i = pixel + l / (kVectorLanes / F), channel = l % (kVectorLanes / F) * kLanes;
    const int left = out.tail - channel;
    if (left <= 0) continue;
    const __mmask16 mask = static_cast<__mmask16>(left >= kLanes ? 0xffff : 0xffff >> (kLanes - left));
    if (finish.has_residual) x[l] = _mm512_add_ps(x[l], _mm512_maskz_loadu_ps(mask, out.residual[i] + channel));
    if (finish.has_value) {
      const __m512 low = _mm512_set1_ps(finish.low), high = _mm512_set1_ps(finish.high);
      _mm512_mask_storeu_ps(out.value[i] + channel, mask, _mm512_min_ps(_mm512_max_ps(x[l], low), high));
    }
  }
  for (int target = 0; target < finish.targets; ++target) {
    const __m512i bytes = codes<false>(x[0], x[1], x[2], x[3], finish.coding[target]);
    store<F>(bytes, out.code[target] + pixel, out.tail);
  }
}

template <int F>
inline void finish_vectors(__m512i (&sum)[4], const Channels& channels, const Output& out, int pixel) {
  __m512 x[4];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    x[q] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[q]), _mm512_loadu_ps(channels.multiplier + q * kLanes),
                           _mm512_loadu_ps(channels.bias + q * kLanes));
  }
  if (!out.finish->scaled) return finish_unscaled<F>(x, out, pixel);
  store<F>(codes_by_lane<true>(x[0], x[1], x[2], x[3], out.finish->coding[0]), out.code[0] + pixel, out.tail);
}

// The four taps of each channel, one after the other; see DepthwiseTile.
template <int F>
inline void four_taps(const std::uint8_t* const* pixels, const std::int64_t* taps, __m512i (&x)[4]) {
  const __m512i t0 = load<F>(pixels, taps[0]), t1 = load<F>(pixels, taps[1]);
  const __m512i t2 = load<F>(pixels, taps[2]), t3 = load<F>(pixels, taps[3]);
  const __m512i low01 = _mm512_unpacklo_epi8(t0, t1), high01 = _mm512_unpackhi_epi8(t0, t1);
  const __m512i low23 = _mm512_unpacklo_epi8(t2, t3), high23 = _mm512_unpackhi_epi8(t2, t3);
  x[0] = _mm512_unpacklo_epi16(low01, low23);
  x[1] = _mm512_unpackhi_epi16(low01, low23);
  x[2] = _mm512_unpacklo_epi16(high01, high23);
  x[3] = _mm512_unpackhi_epi16(high01, high23);
}

// `U` sets of vectors, of F pixels each.
template <int F, int U, bool Wide>
inline void units(const DepthwiseTile& tile, int first) {
  __m512i sum[U][4];
#pragma GCC unroll 4
  for (int u = 0; u < U; ++u) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) sum[u][q] = _mm512_loadu_si512(tile.channels.start + q * kLanes);
  }
  const std::int64_t bytes = tile.tap_quads * 4 * 64;
  for (std::int64_t quad = 0; quad < tile.tap_quads; ++quad) {
    const std::int8_t* weights = tile.weights + quad * 4 * 64;
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) {
      __m512i x[4];
      four_taps<F>(tile.input + first + u * F, tile.taps + quad * kQuad, x);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        sum[u][q] = _mm512_dpbusd_epi32(sum[u][q], x[q], _mm512_loadu_si512(weights + q * 64));
        if (Wide) {
          const __m512i rest = _mm512_loadu_si512(weights + bytes + q * 64);
          sum[u][q] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum[u][q], x[q], rest), x[q], rest);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int u = 0; u < U; ++u) finish_vectors<F>(sum[u], tile.channels, tile.output, first + u * F);
}

template <int F, bool Wide>
void depthwise(const DepthwiseTile& tile) {
  for (int i = 0; i < tile.pixels; i += 2 * F) units<F, 2, Wide>(tile, i);
}

}  // namespace

void depthwise_avx512(const DepthwiseTile& tile) {
  if (tile.fold == 1) return tile.wide ? depthwise<1, true>(tile) : depthwise<1, false>(tile);
  if (tile.fold == 2) return tile.wide ? depthwise<2, true>(tile) : depthwise<2, false>(tile);
  return tile.wide ? depthwise<4, true>(tile) : depthwise<4, false>(tile);
}

}  // namespace eqnet::conv
