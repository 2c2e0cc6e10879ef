// 16 lanes of 32 bits in plain C++: what runs everywhere, and what the other vectors are compared with.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace eqnet {
namespace {

struct Portable {
  struct Int {
    std::uint32_t lane[16];
  };
  struct Float {
    float lane[16];
  };

  static constexpr int kTiles = 1;
  static constexpr int kDigitRows = 1;
  static constexpr int kFloatTileRows = 1;
  static constexpr int kChains = 1;

  template <class Body>
  static Int ints(const Body& body) {
    Int result;
    for (int i = 0; i < 16; ++i) result.lane[i] = static_cast<std::uint32_t>(body(i));
    return result;
  }
  template <class Body>
  static Float floats(const Body& body) {
    Float result;
    for (int i = 0; i < 16; ++i) result.lane[i] = body(i);
    return result;
  }

  static Int load(const void* p) {
    Int result;
    std::memcpy(&result, p, sizeof(result));
    return result;
  }
  static void store(void* p, Int x) { std::memcpy(p, &x, sizeof(x)); }
  static Int zero() { return set(0); }
  static Int set(std::int32_t x) {
    return ints([&](int) { return x; });
  }
  static Int set_byte(std::uint8_t x) { return set(static_cast<std::int32_t>(x * 0x01010101u)); }
  // 16 unsigned bytes to 16 lanes.
  static Int widen(const std::uint8_t* p) {
    return ints([&](int i) { return p[i]; });
  }
  static Int add(Int a, Int b) {
    return ints([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Int both(Int a, Int b) {
    return ints([&](int i) { return a.lane[i] & b.lane[i]; });
  }
  // a | (b & mask)
  static Int merge(Int a, Int b, Int mask) {
    return ints([&](int i) { return a.lane[i] | (b.lane[i] & mask.lane[i]); });
  }
  // Shifts of 32-bit lanes; negative is to the left.
  template <int N>
  static Int shift_right(Int x) {
    return ints([&](int i) { return N >= 0 ? x.lane[i] >> (N >= 0 ? N : 0) : x.lane[i] << (N < 0 ? -N : 0); });
  }

  // Sums of products of 4 bytes, unsigned times signed. Wide says that the unsigned ones may exceed 127.
  template <bool Wide>
  static Int dot(Int sum, Int u, Int s) {
    return ints([&](int i) {
      std::int32_t total = static_cast<std::int32_t>(sum.lane[i]);
      for (int byte = 0; byte < 4; ++byte) {
        total += static_cast<std::uint8_t>(u.lane[i] >> (8 * byte)) * static_cast<std::int8_t>(s.lane[i] >> (8 * byte));
      }
      return total;
    });
  }
  static Int broadcast_step(const std::int8_t* p) {
    std::int32_t word;
    std::memcpy(&word, p, 4);
    return set(word);
  }
  // sum + zeros * minus_sum
  static Int add_product(Int sum, Int zeros, std::int32_t minus_sum) {
    return ints([&](int i) { return sum.lane[i] + zeros.lane[i] * static_cast<std::uint32_t>(minus_sum); });
  }

  static Float zero_float() { return set_float(0.0f); }
  static Float set_float(float x) {
    return floats([&](int) { return x; });
  }
  static Float load_float(const float* p) {
    return floats([&](int i) { return p[i]; });
  }
  static void store_float(float* p, Float x) { std::memcpy(p, &x, sizeof(x)); }
  static Float to_float(Int x) {
    return floats([&](int i) { return static_cast<float>(static_cast<std::int32_t>(x.lane[i])); });
  }
  static Int to_int(Float x) {  // half to even; what does not fit, as x86 does it
    return ints([&](int i) {
      const float rounded = std::rint(x.lane[i]);
      return std::fabs(rounded) < 2147483648.0f ? static_cast<std::int32_t>(rounded) : INT32_MIN;
    });
  }
  static Float multiply(Float a, Float b) {
    return floats([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static Float subtract(Float a, Float b) {
    return floats([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static Float add(Float a, Float b) {
    return floats([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static Float multiply_add(Float a, Float b, Float c) {
    return floats([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static Float from_half(const std::uint16_t* p) {
    return floats([&](int i) {
      const int exponent = p[i] >> 10 & 31;
      const float mantissa = static_cast<float>(p[i] & 1023) + (exponent != 0 ? 1024.0f : 0.0f);
      const float magnitude = exponent == 31 ? (mantissa == 1024.0f ? INFINITY : NAN)
                                             : std::ldexp(mantissa, (exponent != 0 ? exponent : 1) - 25);
      return p[i] >> 15 != 0 ? -magnitude : magnitude;
    });
  }
  static Float from_bfloat(const std::uint16_t* p) {
    return floats([&](int i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(p[i]) << 16;
      float value;
      std::memcpy(&value, &bits, sizeof(value));
      return value;
    });
  }
  static Float max_magnitude(Float a, Float b) {
    return floats([&](int i) { return std::fabs(b.lane[i]) > a.lane[i] ? std::fabs(b.lane[i]) : a.lane[i]; });
  }
  static float largest_magnitude(Float x) {
    float most = 0.0f;
    for (const float lane : x.lane) most = std::fabs(lane) > most ? std::fabs(lane) : most;
    return most;
  }
  static float sum_float(Float x) {
    float total = 0.0f;
    for (const float lane : x.lane) total += lane;
    return total;
  }
  static std::int32_t sum(Int x) {
    std::uint32_t total = 0;
    for (const std::uint32_t lane : x.lane) total += lane;
    return static_cast<std::int32_t>(total);
  }
  // The lowest byte of each lane, signed, and what is left above it once it is taken away.
  static Int low_byte(Int x) {
    return ints([&](int i) { return static_cast<std::int8_t>(x.lane[i]); });
  }
  static Int drop_byte(Int x, Int low) {  // the difference is a multiple of 256
    return ints([&](int i) { return static_cast<std::int32_t>(x.lane[i] - low.lane[i]) / 256; });
  }
  // The lanes, which fit, as 16 signed bytes.
  static void store_bytes(std::int8_t* p, Int x) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int8_t>(x.lane[i]);
  }
  static inline __attribute__((always_inline)) void prefetch(const void*) {}

  // From the clean codes of one step to the floats of its column T: code - 2^(Bits - 1).
  template <int Bits>
  static Int centered(Int codes) {
    return codes;
  }
  template <int Bits, int T>
  static Float column(Int codes) {
    return floats([&](int i) {
      return static_cast<float>(static_cast<std::int32_t>(codes.lane[i] >> (8 * T) & 255) - (1 << (Bits - 1)));
    });
  }
};

}  // namespace
}  // namespace eqnet
