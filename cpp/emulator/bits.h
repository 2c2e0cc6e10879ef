// Integer and small arithmetic functions of CUDA that C++ has not.
#pragma once

#include <cmath>
#include <cstdint>

#include "narrow.h"

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

// Four of the eight bytes of y:x, each by a hexadecimal digit of `selector`, whose highest bit repeats the byte's sign.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t both = static_cast<std::uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned digit = selector >> (4 * i) & 15;
    unsigned byte = static_cast<unsigned>(both >> (8 * (digit & 7)) & 0xff);
    if (digit & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) >> (by & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) << (by & 31) >> 32);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}

inline unsigned __float_as_uint(float x) { return eqnet::emulator::reinterpret<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return eqnet::emulator::reinterpret<float>(x); }
inline int __float_as_int(float x) { return eqnet::emulator::reinterpret<int>(x); }
inline float __int_as_float(int x) { return eqnet::emulator::reinterpret<float>(x); }

// These are exact to a few units in the last place on a GPU, and to one here.
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

namespace eqnet::emulator {

// Each bit of the result is the bit of `table` that the bits of a, b and c, in this order, are the number of.
template <int kTable>
unsigned lop3(unsigned a, unsigned b, unsigned c) {
  static_assert(kTable >= 0 && kTable < 256);
  unsigned result = 0;
  for (int i = 0; i < 8; ++i) {
    if (kTable >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  }
  return result;
}

}  // namespace eqnet::emulator
