#pragma once

#include "lanes.h"

namespace eqnet::lanes {

// Columns whose lanes are at once in the registers of one loop of `take_errors`.
#if defined(__x86_64__)
constexpr std::int64_t kColumns = 8;
#else
constexpr std::int64_t kColumns = 4;
#endif

struct alignas(kWidth) Bytes {
  std::uint8_t at[kWidth];
};

// x_c -= errors_k * factor[c][k], for all k in turn and each column c.
//
// errors: [count]; factor: the first of `columns` rows that are `stride` apart; x: [columns].
void take_errors(const Lanes* errors, std::int64_t count, const float* factor, std::int64_t stride, Lanes* x,
                 std::int64_t columns);

// Rounds columns one after the other. With a factor, each makes good the errors of those before it, and becomes its own
// error, divided by the factor of itself, which is all that is still needed of it.
//
// group: of each column; ranges: of each group; factor: a square of the columns, rows `stride` apart, or null;
// codes: [columns], less the smallest one of the format, written.
void round_columns(Lanes* x, std::int64_t columns, const std::int32_t* group, const Range* ranges, const Limits& limits,
                   const float* factor, std::int64_t stride, Bytes* codes);

// (code - zero point) * scale, of codes as `round_columns` gives them.
inline void dequantize(const Bytes& codes, const Range& range, const Limits& limits, Lanes& values) {
  for (int l = 0; l < kWidth; ++l) {
    values[l] = (static_cast<float>(codes.at[l]) + limits.lowest - range.zero_point[l]) * range.scale[l];
  }
}

}  // namespace eqnet::lanes
