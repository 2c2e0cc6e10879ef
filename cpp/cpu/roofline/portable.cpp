#include <cstring>

#include "loops.inl.h"

namespace eqnet {
namespace {

// Four lanes, which the compiler puts into whatever registers there are.
struct Portable {
  struct Int {
    std::int32_t lanes[4];
  };
  struct Float {
    float lanes[4];
  };
  static constexpr int kRegisters = 6;

  static Int load_line(const std::uint8_t* p) {
    Int result{};
    for (int i = 0; i < 4; ++i) {
      std::int32_t parts[4];
      std::memcpy(parts, p + 16 * i, sizeof(parts));
      for (int k = 0; k < 4; ++k) result.lanes[k] ^= parts[k];
    }
    return result;
  }
  static Int both(Int a, Int b) {
    for (int k = 0; k < 4; ++k) a.lanes[k] ^= b.lanes[k];
    return a;
  }
  static Int dot(Int sums, Int a, Int b) {
    std::int8_t x[16], y[16];
    std::memcpy(x, a.lanes, sizeof(x));
    std::memcpy(y, b.lanes, sizeof(y));
    for (int k = 0; k < 16; ++k) sums.lanes[k / 4] += x[k] * y[k];
    return sums;
  }
  static Float fma(Float a, Float b, Float c) {
    for (int k = 0; k < 4; ++k) c.lanes[k] += a.lanes[k] * b.lanes[k];
    return c;
  }
  static Int integers(int x) { return {{x, x, x, x}}; }
  static Float floats(float x) { return {{x, x, x, x}}; }
  static std::uint64_t first(Int x) { return bits(x); }
  static std::uint64_t first(Float x) { return bits(x); }

 private:
  template <class T>
  static std::uint64_t bits(const T& x) {
    std::uint64_t result;
    std::memcpy(&result, &x, sizeof(result));
    return result;
  }
};

}  // namespace

extern const RooflineLoops kRooflinePortable;
const RooflineLoops kRooflinePortable = roofline_loops<Portable>(Isa::kPortable);

}  // namespace eqnet
