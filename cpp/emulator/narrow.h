#pragma once

#include <cstdint>
#include <cstring>

namespace eqnet::emulator {

// A floating-point number of 16 bits as IEEE 754 makes them: sign, exponent, fraction.
template <int kExponentBits, int kFractionBits>
struct Narrow {
  std::uint16_t bits;
};

using Half = Narrow<5, 10>;
using Bfloat16 = Narrow<8, 7>;

template <typename To, typename From>
To reinterpret(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

// Exactly.
template <int kExponentBits, int kFractionBits>
float widen(Narrow<kExponentBits, kFractionBits> x) {
  constexpr std::uint32_t kExponents = (1u << kExponentBits) - 1;
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  std::uint32_t wide = magnitude << (23 - kFractionBits);
  if (magnitude >> kFractionBits == kExponents) {
    wide |= 0x7f800000u;
  } else if (kExponentBits < 8) {
    // Multiplying by a power of two moves the exponent, and makes subnormal numbers normal ones.
    constexpr std::uint32_t kScale = (127u + 127u - kExponents / 2) << 23;
    wide = reinterpret<std::uint32_t>(reinterpret<float>(wide) * reinterpret<float>(kScale));
  }
  return reinterpret<float>(wide | (x.bits & 0x8000u) << 16);
}

// Rounded to nearest, ties to even. Any NaN becomes the one that GPUs return.
template <typename To>
To narrow(double x);

namespace detail {

template <int kExponentBits, int kFractionBits>
Narrow<kExponentBits, kFractionBits> round(double x) {
  constexpr std::uint64_t kInfinity = ((1u << kExponentBits) - 1) << kFractionBits;
  constexpr std::int64_t kLeastExponent = 2 - (1 << (kExponentBits - 1));  // of normal numbers
  const auto bits = reinterpret<std::uint64_t>(x);
  const auto sign = static_cast<std::uint16_t>(bits >> 48 & 0x8000u);
  if (x != x) return {0x7fff};
  std::int64_t exponent = static_cast<std::int64_t>(bits >> 52 & 0x7ff) - 1023;
  if (exponent < kLeastExponent) exponent = kLeastExponent;
  if (exponent > -kLeastExponent + 1) return {static_cast<std::uint16_t>(sign | kInfinity)};
  // In units of the last place: adding 2^52 leaves no fraction, rounded as the processor rounds, ties to even.
  const auto unit = static_cast<std::uint64_t>(1023 + kFractionBits - exponent) << 52;
  const double scaled = reinterpret<double>(bits & ~(std::uint64_t{1} << 63)) * reinterpret<double>(unit);
  const auto units = reinterpret<std::uint64_t>(scaled + 0x1p52) & 0xfffffu;
  // The leading one of a normal number raises its exponent by one, and so does a carry.
  const std::uint64_t magnitude = (static_cast<std::uint64_t>(exponent - kLeastExponent) << kFractionBits) + units;
  return {static_cast<std::uint16_t>(sign | (magnitude < kInfinity ? magnitude : kInfinity))};
}

}  // namespace detail

template <>
inline Half narrow<Half>(double x) {
  return detail::round<5, 10>(x);
}
template <>
inline Bfloat16 narrow<Bfloat16>(double x) {
  return detail::round<8, 7>(x);
}

// a · b + c, rounded once.
template <typename T>
T fused_multiply_add(T a, T b, T c) {
  const double product = static_cast<double>(widen(a)) * static_cast<double>(widen(b));  // exact
  const double addend = static_cast<double>(widen(c));
  const double sum = product + addend;
  // What the sum lost, exactly (Knuth). A last bit that says that something was lost keeps the second rounding right.
  const double back = sum - product;
  const double lost = (product - (sum - back)) + (addend - back);
  auto bits = reinterpret<std::uint64_t>(sum);
  if (lost == lost && lost != 0 && !(bits & 1)) bits += (lost > 0) == (sum > 0) ? 1 : -1;
  return narrow<T>(reinterpret<double>(bits));
}

}  // namespace eqnet::emulator
