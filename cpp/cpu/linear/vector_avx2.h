// 16 lanes of 32 bits in two AVX2 registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace eqnet {
namespace {

struct Avx2 {
  struct Int {
    __m256i low, high;
  };
  struct Float {
    __m256 low, high;
  };

  // 16 registers hold the sums of few rows.
  static constexpr int kTiles = 2;
  static constexpr int kDigitRows = 1;
  static constexpr int kFloatTileRows = 3;
  static constexpr int kChains = 1;

  static Int load(const void* p) {
    const auto* words = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(words), _mm256_loadu_si256(words + 1)};
  }
  static void store(void* p, Int x) {
    auto* words = static_cast<__m256i*>(p);
    _mm256_storeu_si256(words, x.low);
    _mm256_storeu_si256(words + 1, x.high);
  }
  static Int zero() { return both_of(_mm256_setzero_si256()); }
  static Int set(std::int32_t x) { return both_of(_mm256_set1_epi32(x)); }
  static Int set_byte(std::uint8_t x) { return both_of(_mm256_set1_epi8(static_cast<char>(x))); }
  // 16 unsigned bytes to 16 lanes.
  static Int widen(const std::uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
  }
  static Int add(Int a, Int b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
  static Int both(Int a, Int b) { return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)}; }
  // a | (b & mask)
  static Int merge(Int a, Int b, Int mask) {
    const Int masked = both(b, mask);
    return {_mm256_or_si256(a.low, masked.low), _mm256_or_si256(a.high, masked.high)};
  }
  // Shifts of 32-bit lanes; negative is to the left.
  template <int N>
  static Int shift_right(Int x) {
    if constexpr (N > 0) return {_mm256_srli_epi32(x.low, N), _mm256_srli_epi32(x.high, N)};
    if constexpr (N < 0) return {_mm256_slli_epi32(x.low, -N), _mm256_slli_epi32(x.high, -N)};
    return x;
  }

  // Sums of products of 4 bytes, unsigned times signed. Wide says that the unsigned ones may exceed 127.
  template <bool Wide>
  static Int dot(Int sum, Int u, Int s) {
    return {dot<Wide>(sum.low, u.low, s.low), dot<Wide>(sum.high, u.high, s.high)};
  }
  static Int broadcast_step(const std::int8_t* p) {
    std::int32_t word;
    __builtin_memcpy(&word, p, 4);
    return set(word);
  }
  // sum + zeros * minus_sum; zeros are at most 255, and minus_sum fits into 16 bits.
  static Int add_product(Int sum, Int zeros, std::int32_t minus_sum) {
    const __m256i factor = _mm256_set1_epi32(minus_sum);
    return add(sum, {_mm256_madd_epi16(zeros.low, factor), _mm256_madd_epi16(zeros.high, factor)});
  }

  static Float zero_float() { return set_float(0.0f); }
  static Float set_float(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Float load_float(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store_float(float* p, Float x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
  }
  static Float to_float(Int x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
  static Int to_int(Float x) { return {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)}; }  // half to even
  static Float multiply(Float a, Float b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static Float subtract(Float a, Float b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  static Float add(Float a, Float b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static Float multiply_add(Float a, Float b, Float c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static Float from_half(const std::uint16_t* p) {
    const auto* words = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(words)), _mm256_cvtph_ps(_mm_loadu_si128(words + 1))};
  }
  static Float from_bfloat(const std::uint16_t* p) {
    const auto* words = reinterpret_cast<const __m128i*>(p);
    const Int wide{_mm256_cvtepu16_epi32(_mm_loadu_si128(words)), _mm256_cvtepu16_epi32(_mm_loadu_si128(words + 1))};
    const Int moved = shift_right<-16>(wide);
    return {_mm256_castsi256_ps(moved.low), _mm256_castsi256_ps(moved.high)};
  }
  static Float max_magnitude(Float a, Float b) {
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return {_mm256_max_ps(a.low, _mm256_and_ps(b.low, mask)), _mm256_max_ps(a.high, _mm256_and_ps(b.high, mask))};
  }
  static float largest_magnitude(Float x) {
    alignas(32) float lanes[16];
    store_float(lanes, max_magnitude(zero_float(), x));
    float most = 0.0f;
    for (const float lane : lanes) most = lane > most ? lane : most;
    return most;
  }
  static float sum_float(Float x) {
    alignas(32) float lanes[16];
    store_float(lanes, x);
    float total = 0.0f;
    for (const float lane : lanes) total += lane;
    return total;
  }
  static std::int32_t sum(Int x) {
    alignas(32) std::int32_t lanes[16];
    store(lanes, x);
    std::int32_t total = 0;
    for (const std::int32_t lane : lanes) total += lane;
    return total;
  }
  // The lowest byte of each lane, signed, and what is left above it once it is taken away.
  static Int low_byte(Int x) {
    const Int top = shift_right<-24>(x);
    return {_mm256_srai_epi32(top.low, 24), _mm256_srai_epi32(top.high, 24)};
  }
  static Int drop_byte(Int x, Int low) {
    return {_mm256_srai_epi32(_mm256_sub_epi32(x.low, low.low), 8),
            _mm256_srai_epi32(_mm256_sub_epi32(x.high, low.high), 8)};
  }
  // The lanes, which fit, as 16 signed bytes.
  static void store_bytes(std::int8_t* p, Int x) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.low, x.high), 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }
  static inline __attribute__((always_inline)) void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
  }

  // From the clean codes of one step to the floats of its column T: code - 2^(Bits - 1).
  template <int Bits>
  static Int centered(Int codes) {
    const __m256i half = _mm256_set1_epi8(static_cast<char>(1 << (Bits - 1)));
    return {_mm256_sub_epi8(codes.low, half), _mm256_sub_epi8(codes.high, half)};
  }
  template <int Bits, int T>
  static Float column(Int centered) {
    const Int top = shift_right<8 * T - 24>(centered);
    return to_float({_mm256_srai_epi32(top.low, 24), _mm256_srai_epi32(top.high, 24)});
  }

 private:
  static Int both_of(__m256i x) { return {x, x}; }

  template <bool Wide>
  static __m256i dot(__m256i sum, __m256i u, __m256i s) {
    // Products of neighbours are added in 16 bits, which 2 * 127 * 127 fits into and 2 * 255 * 127 does not.
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (!Wide) return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), ones));
    const __m256i top = _mm256_set1_epi8(static_cast<char>(0x80));
    const __m256i rest = _mm256_maddubs_epi16(_mm256_andnot_si256(top, u), s);
    const __m256i tops = _mm256_maddubs_epi16(_mm256_and_si256(top, u), s);
    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(rest, ones), _mm256_madd_epi16(tops, ones)));
  }
};

}  // namespace
}  // namespace eqnet
