// Scales as they are stored.
#pragma once

#include <cstdint>
#include <cstring>

#include "eqnet/panels.h"

namespace eqnet {

inline float from_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = half >> 10 & 31, fraction = half & 1023u;
  std::uint32_t bits;
  if (exponent == 0) {  // zero and subnormal numbers
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    std::memcpy(&bits, &value, sizeof(bits));
  } else {
    bits = (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
  }
  bits |= sign;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline std::int64_t scale_bytes(ScaleType type) { return type == ScaleType::kFloat32 ? 4 : 2; }

// The scale at `index` of those of one type, at any address.
inline float scale_at(const void* scales, ScaleType type, std::int64_t index) {
  const auto* bytes = static_cast<const std::uint8_t*>(scales) + index * scale_bytes(type);
  std::uint32_t bits = 0;
  if (type == ScaleType::kFloat32) {
    std::memcpy(&bits, bytes, 4);
  } else {
    std::uint16_t half;
    std::memcpy(&half, bytes, 2);
    if (type == ScaleType::kFloat16) return from_half(half);
    bits = static_cast<std::uint32_t>(half) << 16;
  }
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace eqnet
