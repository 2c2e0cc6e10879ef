#include <immintrin.h>

#include <cstring>

#include "loops.inl.h"

namespace eqnet {
namespace {

struct Avx512 {
  using Int = __m512i;
  using Float = __m512;
  static constexpr int kRegisters = 16;

  static Int load_line(const std::uint8_t* p) { return _mm512_load_si512(p); }
  static Int both(Int a, Int b) { return _mm512_xor_si512(a, b); }
  static Int dot(Int sums, Int a, Int b) { return _mm512_dpbusd_epi32(sums, a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Int integers(int x) { return _mm512_set1_epi32(x); }
  static Float floats(float x) { return _mm512_set1_ps(x); }
  static std::uint64_t first(Int x) { return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(x))); }
  static std::uint64_t first(Float x) { return first(_mm512_castps_si512(x)); }
};

}  // namespace

extern const RooflineLoops kRooflineAvx512;
const RooflineLoops kRooflineAvx512 = roofline_loops<Avx512>(Isa::kAvx512Vnni);

}  // namespace eqnet
