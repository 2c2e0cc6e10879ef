// From 32-bit sums to codes and floating point, with AVX-512. To be included by files compiled for it.
#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace eqnet::conv {
namespace {

// Above all codes, and far from overflowing an integer.
constexpr float kAboveCodes = 1e6f;

// The codes of four vectors of 16 values; lane i (16 bytes) holds dwords 4i to 4i + 3 of each vector, one vector after the
// other. If Scaled, the values are in units of the code already.
template <bool Scaled>
inline __m512i codes_by_lane(__m512 a, __m512 b, __m512 c, __m512 d, const Coding& coding) {
  const __m512 scale = _mm512_set1_ps(coding.inverse_scale), above = _mm512_set1_ps(kAboveCodes);
  const auto integers = [&](__m512 x) {
    return _mm512_cvtps_epi32(_mm512_min_ps(above, Scaled ? x : _mm512_mul_ps(x, scale)));  // NaN stays, is negative
  };
  const __m512i zero = _mm512_set1_epi16(static_cast<short>(coding.zero));
  const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(integers(a), integers(b)), zero);
  const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(integers(c), integers(d)), zero);
  const __m512i bytes = _mm512_packus_epi16(ab, cd);
  return _mm512_min_epu8(_mm512_max_epu8(bytes, _mm512_set1_epi8(static_cast<char>(coding.low))),
                         _mm512_set1_epi8(static_cast<char>(coding.high)));
}

// The same, the codes of one vector after those of the other.
template <bool Scaled>
inline __m512i codes(__m512 a, __m512 b, __m512 c, __m512 d, const Coding& coding) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, codes_by_lane<Scaled>(a, b, c, d, coding));
}

template <bool Scaled, int P, int V>
inline void store_codes(const __m512 (&x)[P][V], const Output& out, int target) {
  const Coding& coding = out.finish->coding[target];
  std::uint8_t* const* to = out.code[target];
  if constexpr (V >= 3) {
    const __mmask64 mask = ~std::uint64_t{0} >> (64 - (V - 1) * kLanes - out.tail);
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) {
      const __m512i bytes = codes<Scaled>(x[i][0], x[i][1], x[i][2], x[i][V - 1], coding);
      if (V == 4 && out.tail == kLanes) {
        _mm512_storeu_si512(to[i], bytes);
      } else {
        _mm512_mask_storeu_epi8(to[i], mask, bytes);
      }
    }
  } else if constexpr (V == 2) {
    const __mmask32 mask = ~std::uint32_t{0} >> (kLanes - out.tail);
#pragma GCC unroll 8
    for (int i = 0; i < P; i += 2) {
      const int j = i + 1 < P ? i + 1 : i;
      const __m512i bytes = codes<Scaled>(x[i][0], x[i][1], x[j][0], x[j][1], coding);
      const __m256i half[2] = {_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64(bytes, 1)};
#pragma GCC unroll 2
      for (int k = 0; k <= j - i; ++k) {
        if (out.tail == kLanes) {
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to[i + k]), half[k]);
        } else {
          _mm256_mask_storeu_epi8(to[i + k], mask, half[k]);
        }
      }
    }
  } else {
    const __mmask16 mask = static_cast<__mmask16>(0xffff >> (kLanes - out.tail));
#pragma GCC unroll 8
    for (int i = 0; i < P; i += 4) {
      const auto at = [&](int k) { return x[i + k < P ? i + k : P - 1][0]; };
      const __m512i bytes = codes<Scaled>(at(0), at(1), at(2), at(3), coding);
      const __m128i lane[4] = {_mm512_castsi512_si128(bytes), _mm512_extracti32x4_epi32(bytes, 1),
                               _mm512_extracti32x4_epi32(bytes, 2), _mm512_extracti32x4_epi32(bytes, 3)};
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        if (i + k >= P) continue;
        if (out.tail == kLanes) {
          _mm_storeu_si128(reinterpret_cast<__m128i*>(to[i + k]), lane[k]);
        } else {
          _mm_mask_storeu_epi8(to[i + k], mask, lane[k]);
        }
      }
    }
  }
}

// Adds the residual, bounds and writes the values of a tile of P pixels by V panels.
template <int P, int V>
inline void finish_tile(__m512 (&x)[P][V], const Output& out) {
  const Finish& finish = *out.finish;
  if (finish.scaled) return store_codes<true, P, V>(x, out, 0);
  if (finish.has_residual || finish.has_value) {
    const __m512 low = _mm512_set1_ps(finish.low), high = _mm512_set1_ps(finish.high);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __mmask16 mask = static_cast<__mmask16>(v + 1 < V ? 0xffff : 0xffff >> (kLanes - out.tail));
#pragma GCC unroll 8
      for (int i = 0; i < P; ++i) {
        if (finish.has_residual) {
          x[i][v] = _mm512_add_ps(x[i][v], _mm512_maskz_loadu_ps(mask, out.residual[i] + v * kLanes));
        }
        if (finish.has_value) {
          const __m512 bounded = _mm512_min_ps(_mm512_max_ps(x[i][v], low), high);
          _mm512_mask_storeu_ps(out.value[i] + v * kLanes, mask, bounded);
        }
      }
    }
  }
  for (int target = 0; target < finish.targets; ++target) store_codes<false, P, V>(x, out, target);
}

}  // namespace
}  // namespace eqnet::conv
