#include "finish_avx2.h"
#include "kernels_avx2.h"

namespace eqnet::conv {
namespace {

constexpr std::int64_t kVector = 32;  // bytes

// One tap of F pixels.
template <int F>
inline __m256i load(const std::uint8_t* const* pixels, std::int64_t tap) {
  if constexpr (F == 1) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixels[0] + tap));
  const auto lane = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels[i] + tap)); };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(lane(0)), lane(1 % F), 1);
}

template <int F>
inline void store(__m256i bytes, std::uint8_t* const* to, int channels) {
  store_lane(_mm256_castsi256_si128(bytes), to[0], channels);
  const __m128i upper = _mm256_extracti128_si256(bytes, 1);
  if constexpr (F == 2) {
    store_lane(upper, to[1], channels);
  } else if (channels > kLanes) {
    store_lane(upper, to[0] + kLanes, channels - kLanes);
  }
}

// The four taps of each channel, one after the other; see DepthwiseTile.
template <int F>
inline void four_taps(const std::uint8_t* const* pixels, const std::int64_t* taps, __m256i (&x)[4]) {
  const __m256i t0 = load<F>(pixels, taps[0]), t1 = load<F>(pixels, taps[1]);
  const __m256i t2 = load<F>(pixels, taps[2]), t3 = load<F>(pixels, taps[3]);
  const __m256i low01 = _mm256_unpacklo_epi8(t0, t1), high01 = _mm256_unpackhi_epi8(t0, t1);
  const __m256i low23 = _mm256_unpacklo_epi8(t2, t3), high23 = _mm256_unpackhi_epi8(t2, t3);
  x[0] = _mm256_unpacklo_epi16(low01, low23);
  x[1] = _mm256_unpackhi_epi16(low01, low23);
  x[2] = _mm256_unpacklo_epi16(high01, high23);
  x[3] = _mm256_unpackhi_epi16(high01, high23);
}

// What finish_tile does, for the F pixels of one set of vectors, the first of which is `pixel`.
template <int F>
void finish_unscaled(const __m256 (&x)[4], const Output& out, int pixel) {
  const Finish& finish = *out.finish;
  // From vectors of every fourth dword to vectors of 8 consecutive channels.
  __m256 y[4] = {_mm256_permute2f128_ps(x[0], x[1], 0x20), _mm256_permute2f128_ps(x[2], x[3], 0x20),
                 _mm256_permute2f128_ps(x[0], x[1], 0x31), _mm256_permute2f128_ps(x[2], x[3], 0x31)};
  for (int v = 0; v < 4; ++v) {
    const int i = pixel + (F == 2 ? v / 2 : 0), channel = (F == 2 ? v % 2 : v) * kHalf;
    if (channel >= out.tail) continue;
    const float* residual = finish.has_residual ? out.residual[i] + channel : nullptr;
    float* value = finish.has_value ? out.value[i] + channel : nullptr;
    y[v] = finish_floats(y[v], finish, residual, value, out.tail - channel);
  }
  for (int target = 0; target < finish.targets; ++target) {
    store<F>(codes<false>(y[0], y[1], y[2], y[3], finish.coding[target]), out.code[target] + pixel, out.tail);
  }
}

template <int F, bool Wide>
inline void unit(const DepthwiseTile& tile, int first) {
  const Channels& channels = tile.channels;
  __m256i sum[4];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    sum[q] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(channels.start + q * kHalf));
  }
  const std::int64_t bytes = tile.tap_quads * 4 * kVector;
  for (std::int64_t quad = 0; quad < tile.tap_quads; ++quad) {
    const std::int8_t* weights = tile.weights + quad * 4 * kVector;
    __m256i x[4];
    four_taps<F>(tile.input + first, tile.taps + quad * kQuad, x);
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const Quad taps = inputs(x[q]);
      sum[q] = add_products(sum[q], taps, signed_weights(weights + q * kVector));
      if (Wide) {
        const Quad rest = signed_weights(weights + bytes + q * kVector);
        sum[q] = add_products(add_products(sum[q], taps, rest), taps, rest);
      }
    }
  }
  __m256 x[4];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    x[q] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[q]), _mm256_loadu_ps(channels.multiplier + q * kHalf),
                           _mm256_loadu_ps(channels.bias + q * kHalf));
  }
  if (!tile.output.finish->scaled) return finish_unscaled<F>(x, tile.output, first);
  const __m256i result = codes_by_lane<true>(x[0], x[1], x[2], x[3], tile.output.finish->coding[0]);
  store<F>(result, tile.output.code[0] + first, tile.output.tail);
}

template <int F, bool Wide>
void depthwise(const DepthwiseTile& tile) {
  for (int i = 0; i < tile.pixels; i += F) unit<F, Wide>(tile, i);
}

}  // namespace

void depthwise_avx2(const DepthwiseTile& tile) {
  if (tile.fold == 1) return tile.wide ? depthwise<1, true>(tile) : depthwise<1, false>(tile);
  return tile.wide ? depthwise<2, true>(tile) : depthwise<2, false>(tile);
}

}  // namespace eqnet::conv
