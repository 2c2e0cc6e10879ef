// 16 lanes of 32 bits in one AVX-512 register.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace eqnet {
namespace {

struct Avx512 {
  using Int = __m512i;
  using Float = __m512;

  static constexpr int kTiles = 4;
  static constexpr int kDigitRows = 6;
  static constexpr int kFloatTileRows = 12;
  static constexpr int kChains = 4;  // independent sums that hide the latency of a dot product

  static Int load(const void* p) { return _mm512_loadu_si512(p); }
  static void store(void* p, Int x) { _mm512_storeu_si512(p, x); }
  static Int zero() { return _mm512_setzero_si512(); }
  static Int set(std::int32_t x) { return _mm512_set1_epi32(x); }
  static Int set_byte(std::uint8_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
  // 16 unsigned bytes to 16 lanes.
  static Int widen(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int both(Int a, Int b) { return _mm512_and_si512(a, b); }
  // a | (b & mask)
  static Int merge(Int a, Int b, Int mask) { return _mm512_ternarylogic_epi32(a, b, mask, 0xf8); }
  // Shifts of 32-bit lanes; negative is to the left.
  template <int N>
  static Int shift_right(Int x) {
    if constexpr (N > 0) return _mm512_srli_epi32(x, N);
    if constexpr (N < 0) return _mm512_slli_epi32(x, -N);
    return x;
  }

  // Sums of products of 4 bytes, unsigned times signed. Wide says that the unsigned ones may exceed 127.
  template <bool Wide>
  static Int dot(Int sum, Int u, Int s) {
    return _mm512_dpbusd_epi32(sum, u, s);
  }
  static Int broadcast_step(const std::int8_t* p) {
    std::int32_t word;
    __builtin_memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
  }
  // sum + zeros * minus_sum; zeros are at most 255, and minus_sum fits into 16 bits.
  static Int add_product(Int sum, Int zeros, std::int32_t minus_sum) {
    return _mm512_dpwssd_epi32(sum, zeros, _mm512_set1_epi32(minus_sum));
  }

  static Float zero_float() { return _mm512_setzero_ps(); }
  static Float set_float(float x) { return _mm512_set1_ps(x); }
  static Float load_float(const float* p) { return _mm512_loadu_ps(p); }
  static void store_float(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }
  static Int to_int(Float x) { return _mm512_cvtps_epi32(x); }  // half to even
  static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float from_half(const std::uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Float from_bfloat(const std::uint16_t* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static float largest_magnitude(Float x) { return _mm512_reduce_max_ps(_mm512_abs_ps(x)); }
  static Float max_magnitude(Float a, Float b) { return _mm512_max_ps(a, _mm512_abs_ps(b)); }
  static float sum_float(Float x) { return _mm512_reduce_add_ps(x); }
  static std::int32_t sum(Int x) { return _mm512_reduce_add_epi32(x); }
  // The lowest byte of each lane, signed, and what is left above it once it is taken away.
  static Int low_byte(Int x) { return _mm512_srai_epi32(_mm512_slli_epi32(x, 24), 24); }
  static Int drop_byte(Int x, Int low) { return _mm512_srai_epi32(_mm512_sub_epi32(x, low), 8); }
  // The lanes, which fit, as 16 signed bytes.
  static void store_bytes(std::int8_t* p, Int x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
  }
  static inline __attribute__((always_inline)) void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
  }

  // From the clean codes of one step to the floats of its column T: code - 2^(Bits - 1). Up to 5 bits they are looked
  // up, which ignores what lies above the index; wider codes are made signed bytes first.
  template <int Bits>
  static Int centered(Int codes) {
    return Bits > 5 ? _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(1 << (Bits - 1)))) : codes;
  }
  template <int Bits, int T>
  static Float column(Int codes) {
    if constexpr (Bits <= 4) {
      return _mm512_permutexvar_ps(shift_right<8 * T>(codes), table<Bits>(0));
    } else if constexpr (Bits == 5) {
      return _mm512_permutex2var_ps(table<Bits>(0), shift_right<8 * T>(codes), table<Bits>(16));
    } else {
      return _mm512_cvtepi32_ps(_mm512_srai_epi32(shift_right<8 * T - 24>(codes), 24));
    }
  }

 private:
  template <int Bits>
  static Float table(int first) {
    const Int lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const Int lane = _mm512_add_epi32(lanes, set(first));
    return to_float(_mm512_sub_epi32(both(lane, set((1 << Bits) - 1)), set(1 << (Bits - 1))));
  }
};

}  // namespace
}  // namespace eqnet
