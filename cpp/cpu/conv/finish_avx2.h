// From 32-bit sums to codes and floating point, with AVX2. To be included by files compiled for it.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels.h"

namespace eqnet::conv {
namespace {

constexpr int kHalf = 8;              // values of a vector
constexpr float kAboveCodes = 1e6f;   // and far from overflowing an integer

// All bits set in the first `count` dwords.
inline __m256i first_dwords(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The codes of four vectors of 8 values; lane i (16 bytes) holds dwords 4i to 4i + 3 of each vector, one vector after the
// other. If Scaled, the values are in units of the code already.
template <bool Scaled>
inline __m256i codes_by_lane(__m256 a, __m256 b, __m256 c, __m256 d, const Coding& coding) {
  const __m256 scale = _mm256_set1_ps(coding.inverse_scale), above = _mm256_set1_ps(kAboveCodes);
  const auto integers = [&](__m256 x) {
    return _mm256_cvtps_epi32(_mm256_min_ps(above, Scaled ? x : _mm256_mul_ps(x, scale)));  // NaN stays, is negative
  };
  const __m256i zero = _mm256_set1_epi16(static_cast<short>(coding.zero));
  const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(integers(a), integers(b)), zero);
  const __m256i cd = _mm256_adds_epi16(_mm256_packs_epi32(integers(c), integers(d)), zero);
  const __m256i bytes = _mm256_packus_epi16(ab, cd);
  return _mm256_min_epu8(_mm256_max_epu8(bytes, _mm256_set1_epi8(static_cast<char>(coding.low))),
                         _mm256_set1_epi8(static_cast<char>(coding.high)));
}

// The same, the codes of one vector after those of the other.
template <bool Scaled>
inline __m256i codes(__m256 a, __m256 b, __m256 c, __m256 d, const Coding& coding) {
  return _mm256_permutevar8x32_epi32(codes_by_lane<Scaled>(a, b, c, d, coding),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

inline void store_lane(__m128i bytes, std::uint8_t* to, int channels) {
  if (channels >= kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
    return;
  }
  alignas(16) std::uint8_t copy[kLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(copy), bytes);
  std::memcpy(to, copy, static_cast<std::size_t>(channels));
}

// Adds the residual to 8 values of a pixel, and writes them bounded; `channels` of them count.
inline __m256 finish_floats(__m256 x, const Finish& finish, const float* residual, float* value, int channels) {
  const __m256i mask = first_dwords(channels);
  if (finish.has_residual) x = _mm256_add_ps(x, _mm256_maskload_ps(residual, mask));
  if (finish.has_value) {
    const __m256 bounded = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(finish.low)), _mm256_set1_ps(finish.high));
    _mm256_maskstore_ps(value, mask, bounded);
  }
  return x;
}

template <bool Scaled, int P>
inline void store_codes(const __m256 (&x)[P][2], const Output& out, int target) {
#pragma GCC unroll 2
  for (int i = 0; i < P; i += 2) {
    const int j = i + 1 < P ? i + 1 : i;
    const __m256i bytes = codes<Scaled>(x[i][0], x[i][1], x[j][0], x[j][1], out.finish->coding[target]);
    store_lane(_mm256_castsi256_si128(bytes), out.code[target][i], out.tail);
    if (j > i) store_lane(_mm256_extracti128_si256(bytes, 1), out.code[target][j], out.tail);
  }
}

// Adds the residual, bounds and writes the values of P pixels by one panel.
template <int P>
inline void finish_tile(__m256 (&x)[P][2], const Output& out) {
  const Finish& finish = *out.finish;
  if (finish.scaled) return store_codes<true, P>(x, out, 0);
  if (finish.has_residual || finish.has_value) {
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const float* residual = finish.has_residual ? out.residual[i] + h * kHalf : nullptr;
        float* value = finish.has_value ? out.value[i] + h * kHalf : nullptr;
        x[i][h] = finish_floats(x[i][h], finish, residual, value, out.tail - h * kHalf);
      }
    }
  }
  for (int target = 0; target < finish.targets; ++target) store_codes<false, P>(x, out, target);
}

// The products of four bytes of inputs and of weights, for 8 channels, added up: exact, as a product of bytes and the sum
// of two of them fit into the 32 bits of pmaddwd. (pmaddubsw would be shorter, but saturates at 16 bits.)
struct Quad {
  __m256i even, odd;
};

inline Quad inputs(__m256i bytes) {
  return {_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(bytes, 8)};
}

inline Quad signed_weights(const std::int8_t* at) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
}

inline __m256i add_products(__m256i sum, const Quad& x, const Quad& w) {
  const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(x.even, w.even), _mm256_madd_epi16(x.odd, w.odd));
  return _mm256_add_epi32(sum, products);
}

}  // namespace
}  // namespace eqnet::conv
