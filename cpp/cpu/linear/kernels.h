// The kernels behind `linear`, one table for each instruction set. They see whole panels and prepared activations; how
// work is cut into panels, rows and threads is in linear.cpp.
#pragma once

#include <cstdint>

#include "eqnet/isa.h"
#include "eqnet/panels.h"

namespace eqnet {

constexpr std::int64_t kMostBlocks = 4;  // of a segment: the sum of as many columns of int8 fits into int16

// A segment is what integers are summed over, and activations have one scale for: equal parts of a group, of whole
// blocks, or half a block where two groups share it.
struct Segments {
  std::int64_t blocks;  // of one segment; of no meaning if it is half a block
  std::int64_t cols;    // of one segment
  std::int64_t count;   // of a row

  // As long as `most` blocks allow.
  static Segments of(const PanelShape& shape, std::int64_t most);
};

// Rows of activations as int8, in the padded columns of a PanelShape; padding is 0.
//
//     x[m, column of segment s] = scale[m, s] * values[m, column]
struct Int8Rows {
  const std::int8_t* values;      // [rows, stride]
  std::int64_t stride;            // bytes from row to row
  const float* scale;             // [rows, segments]
  const std::int32_t* minus_sum;  // [rows, segments]: minus the sum of a segment's values
  Segments segments;

  // The same from a later row on.
  Int8Rows from(std::int64_t row) const {
    return {values + row * stride, stride, scale + row * segments.count, minus_sum + row * segments.count, segments};
  }
};

// Rows of int8 that one row of float32 is the sum of: its digits to the base of 256, the lowest first.
constexpr int kDigits = 4;

// The same as float32.
struct FloatRows {
  const float* values;  // [rows, stride]
  std::int64_t stride;  // elements from row to row
};

// Numbers of rows that `multiply` takes at once.
constexpr int kTileRows[] = {1, 2, 4, 6};
constexpr int kTiles = 4;

struct LinearKernels {
  Isa isa;
  int tiles;            // how many of kTileRows there are kernels for
  int digit_rows;       // up to how many rows of floats are faster as digits
  int float_tile_rows;  // the most rows of `gemm_float`

  // Quantizes one row: values[i] = round(x[i] * 127 / max |x|) over each segment. x, values: [segments * cols], padded.
  void (*quantize)(const float* x, std::int64_t segments, std::int64_t segment_cols, std::int8_t* values, float* scale,
                   std::int32_t* minus_sum);

  // Splits one row into kDigits rows, `stride` bytes apart, whose sum it is, but for what lies 2^-31 below the largest
  // of a segment. scale, minus_sum: [kDigits, segments].
  void (*split)(const float* x, std::int64_t segments, std::int64_t segment_cols, std::int8_t* values,
                std::int64_t stride, float* scale, std::int32_t* minus_sum);

  // sums[m, 32] = x[m] times a panel, which is unpacked in registers. Indexed by bits and by kTileRows.
  void (*multiply[9][kTiles])(const Panels& weights, std::int64_t panel, const Int8Rows& x, float* sums);

  // Dequantizes the blocks [first, first + count) of a panel to [columns, 32]. Indexed by bits.
  void (*unpack[9])(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count, float* tile);

  // sums[r, 32] += x[r] times such a tile. Indexed by the number of rows, from 1.
  void (*gemm_float[17])(const float* tile, std::int64_t cols, const float* x, std::int64_t stride, float* sums);
};

constexpr std::int64_t kFloatBlocks = 8;  // that are dequantized at once: 32 KiB

// The table of each instruction set that is compiled in, best first, ended by null.
extern const LinearKernels* const kLinearKernels[];

}  // namespace eqnet
