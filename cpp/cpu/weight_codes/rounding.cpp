#include "rounding.h"

#include <cmath>

#include "../multiversion.h"

namespace eqnet::lanes {
namespace {

template <std::int64_t kCount>
EQNET_INLINE void take_errors_at_once(const Lanes* __restrict errors, std::int64_t count, const float* factor,
                                      std::int64_t stride, Lanes* __restrict x) {
  float taken[kCount][kWidth];
  for (std::int64_t c = 0; c < kCount; ++c) {
    for (int l = 0; l < kWidth; ++l) taken[c][l] = x[c][l];
  }
  for (std::int64_t k = 0; k < count; ++k) {
    const float* column = factor + k;
    for (int l = 0; l < kWidth; ++l) {
      const float error = errors[k][l];
#pragma GCC unroll 8
      for (std::int64_t c = 0; c < kCount; ++c) taken[c][l] -= error * column[c * stride];
    }
  }
  for (std::int64_t c = 0; c < kCount; ++c) {
    for (int l = 0; l < kWidth; ++l) x[c][l] = taken[c][l];
  }
}

}  // namespace

EQNET_MULTIVERSION
void take_errors(const Lanes* errors, std::int64_t count, const float* factor, std::int64_t stride, Lanes* x,
                 std::int64_t columns) {
  std::int64_t c = 0;
  for (; c + kColumns <= columns; c += kColumns) {
    take_errors_at_once<kColumns>(errors, count, factor + c * stride, stride, x + c);
  }
  for (; c < columns; ++c) take_errors_at_once<1>(errors, count, factor + c * stride, stride, x + c);
}

EQNET_MULTIVERSION
void round_columns(Lanes* x, std::int64_t columns, const std::int32_t* group, const Range* ranges, const Limits& limits,
                   const float* factor, std::int64_t stride, Bytes* codes) {
  const float lowest = limits.lowest, highest = limits.highest;
  for (std::int64_t j = 0; j < columns; ++j) {
    const Range& range = ranges[group[j]];
    Lanes code;
    for (int l = 0; l < kWidth; ++l) {
      code[l] = clamped(std::rint(x[j][l] / range.scale[l]) + range.zero_point[l], lowest, highest);
    }
    for (int l = 0; l < kWidth; ++l) codes[j].at[l] = static_cast<std::uint8_t>(static_cast<int>(code[l] - lowest));
    if (factor == nullptr) continue;
    const float diagonal = factor[j * stride + j];
    Lanes error;
    for (int l = 0; l < kWidth; ++l) {
      error[l] = (x[j][l] - (code[l] - range.zero_point[l]) * range.scale[l]) / diagonal;
    }
    x[j] = error;
    for (std::int64_t k = j + 1; k < columns; ++k) {
      const float share = factor[k * stride + j];
      for (int l = 0; l < kWidth; ++l) x[k][l] -= error[l] * share;
    }
  }
}

}  // namespace eqnet::lanes
