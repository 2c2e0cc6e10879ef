// Rows of a packed table.
#pragma once

#include <cstdint>

#include "eqnet/panels.h"

namespace eqnet {

// A table as it is stored (eqnet/packed/planes.py). An element is (u - zero) * scale with unsigned codes u.
struct Table {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t group_size;  // columns that share a scale, 1 to cols
  int bits;                 // 2 to 8
  const std::uint8_t* codes;
  const void* scale;  // [rows or 1, groups] of `scale_type`
  ScaleType scale_type;
  bool scale_per_row;
  const std::uint8_t* zero_point;  // of as many, or null: 2^(bits - 1) everywhere (symmetric)

  std::int64_t groups() const { return (cols + group_size - 1) / group_size; }
};

// out: float32 [count, cols], the rows of these indices, each of which is 0 to table.rows - 1. Nothing but those rows is
// read.
void gather_rows(const Table& table, const std::int64_t* indices, std::int64_t count, float* out, int threads);

}  // namespace eqnet
