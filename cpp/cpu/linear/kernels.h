// The kernels behind `linear`, one table for each instruction set. They see whole panels and prepared activations; how
// work is cut into panels, rows and threads is in linear.cpp.
#pragma once

#include <cstdint>

#include "eqnet/isa.h"
#include "eqnet/panels.h"

namespace eqnet {

// Rows of activations as int8, in the padded columns of a PanelShape; padding is 0.
//
//     x[m, column of segment s] = scale[m, s] * values[m, column]
struct Int8Rows {
  const std::int8_t* values;         // [rows, stride]
  std::int64_t stride;               // bytes from row to row
  const float* scale;                // [rows, segments]
  const std::int32_t* minus_sum;     // [rows, segments]: minus the sum of a segment's values
  std::int64_t segments;
};

// Rows of int8 that one row of float32 is the sum of: its digits to the base of 256, the lowest first.
constexpr int kDigits = 4;

// The same as float32.
struct FloatRows {
  const float* values;  // [rows, stride]
  std::int64_t stride;  // elements from row to row
};

// Part of one panel, unpacked: the segments [first, first + count).
struct Int8Tile {
  std::uint8_t* codes;    // [steps, 2, 64]: as in a line, but a byte each
  float* scale;           // [segments, 32]
  std::int32_t* zeros;    // [segments, 32], or null if symmetric
};

struct LinearKernels {
  Isa isa;
  int decode_rows;      // the most rows that `decode` takes
  int int8_tile_rows;   // the most rows of `gemm_int8`
  int float_tile_rows;  // the most rows of `gemm_float`

  // Quantizes one row: values[i] = round(x[i] * 127 / max |x|) over each segment. x, values: [segments * cols], padded.
  void (*quantize)(const float* x, std::int64_t segments, std::int64_t segment_cols, std::int8_t* values, float* scale,
                   std::int32_t* minus_sum);

  // Splits one row into kDigits rows, `stride` bytes apart, whose sum it is, but for what lies 2^-31 below the largest of
  // a segment. scale, minus_sum: [kDigits, segments].
  void (*split)(const float* x, std::int64_t segments, std::int64_t segment_cols, std::int8_t* values,
                std::int64_t stride, float* scale, std::int32_t* minus_sum);

  // sums[m, 32] = x[m] times a panel, for 1, 2, 4 or 8 rows. Indexed by bits and log2(rows).
  void (*decode[9][4])(const Panels& weights, std::int64_t panel, const Int8Rows& x, float* sums);

  // Unpacks segments of a panel. Indexed by bits.
  void (*unpack_int8[9])(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count,
                         const Int8Tile& tile);
  // weights as float32 [columns, 32], dequantized.
  void (*unpack_float[9])(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count,
                          float* tile);

  // sums[r, 32] += x[row + r] times a tile, for r < rows of 1 to the tile's most. `first` is the tile's first segment.
  void (*gemm_int8[17])(const Int8Tile& tile, const PanelShape& shape, std::int64_t first, std::int64_t count,
                        const Int8Rows& x, std::int64_t row, float* sums);
  void (*gemm_float[17])(const float* tile, std::int64_t cols, const float* x, std::int64_t stride, float* sums);
};

// The table of each instruction set that is compiled in, best first, ended by null.
extern const LinearKernels* const kLinearKernels[];

}  // namespace eqnet
