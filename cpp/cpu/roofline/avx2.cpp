#include <immintrin.h>

#include "loops.inl.h"

namespace eqnet {
namespace {

struct Avx2 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr int kRegisters = 12;

  static Int load_line(const std::uint8_t* p) {
    const auto* halves = reinterpret_cast<const __m256i*>(p);
    return _mm256_xor_si256(_mm256_load_si256(halves), _mm256_load_si256(halves + 1));
  }
  static Int both(Int a, Int b) { return _mm256_xor_si256(a, b); }
  static Int dot(Int sums, Int a, Int b) {
    const Int pairs = _mm256_maddubs_epi16(a, b);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Int integers(int x) { return _mm256_set1_epi32(x); }
  static Float floats(float x) { return _mm256_set1_ps(x); }
  static std::uint64_t first(Int x) { return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm256_castsi256_si128(x))); }
  static std::uint64_t first(Float x) { return first(_mm256_castps_si256(x)); }
};

}  // namespace

extern const RooflineLoops kRooflineAvx2;
const RooflineLoops kRooflineAvx2 = roofline_loops<Avx2>(Isa::kAvx2);

}  // namespace eqnet
