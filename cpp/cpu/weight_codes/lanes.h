// Rows of a weight side by side, so that what is done to one of them is done to all of them at once.
#pragma once

#include <cstdint>

#include "eqnet/weight_codes.h"

// Goes into functions that are compiled for several instruction sets, which a call would leave.
#if defined(__GNUC__)
#define EQNET_INLINE inline __attribute__((always_inline))
#else
#define EQNET_INLINE inline
#endif

namespace eqnet::lanes {

constexpr int kWidth = 16;

struct alignas(64) Lanes {
  float at[kWidth];

  float& operator[](int lane) { return at[lane]; }
  const float& operator[](int lane) const { return at[lane]; }
};

struct Range {
  Lanes scale;  // of the type that is stored
  Lanes zero_point;
};

struct Limits {
  float lowest;  // code
  float highest;

  explicit Limits(const WeightFormat& format)
      : lowest(format.symmetric ? -static_cast<float>(1 << (format.bits - 1)) : 0.0f),
        highest(lowest + static_cast<float>((1 << format.bits) - 1)) {}
};

// The nearest to `value` of what lies within limits; the lowest if it is NaN.
EQNET_INLINE float clamped(float value, float lowest, float highest) {
  const float raised = value > lowest ? value : lowest;
  return raised < highest ? raised : highest;
}

}  // namespace eqnet::lanes
