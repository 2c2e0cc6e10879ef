// From a weight matrix in floating point to codes: ranges of least squared error, and error compensation.
//
// What is done to a row does not depend on the others, nor on the instruction set or the number of threads: all sums
// are in a fixed order.
#pragma once

#include <cstdint>

#include "eqnet/panels.h"

namespace eqnet {

struct WeightFormat {
  int bits;                 // 2 to 8
  bool symmetric;           // codes from -2^(bits - 1) with zero point 0; or else from 0 with any code as zero point
  std::int64_t group_size;  // columns that share a scale, from the left; the last group may have fewer
  ScaleType scale_type;     // scales are rounded to what it holds before codes are chosen
};

struct Rounding {
  bool searched;              // ranges are searched for, or else go from the smallest to the largest weight
  const float* importance;    // of the squared errors of each column, [cols], not negative; null: 1
  const float* factor;        // for error compensation, [cols, cols]; null: none
  const std::int64_t* order;  // in which columns are rounded, [cols]; null: from left to right
};

// What was met with in finding ranges, to tell whether scales fit into their type.
struct Largest {
  float scale;   // of a full range, not rounded
  float weight;  // absolute, in the group of that scale
};

// Full ranges: absmax / (2^(bits - 1) - 1) if symmetric, else (max - min) / (2^bits - 1), 0 included, so that the zero
// point is one of the codes. A group of zeros has scale 1.
//
// Searched ranges, of least  sum_i h_i * (x_i - dequantized x_i)^2  with h the importance: scales from the full range
// down to the step that suits a normal distribution are tried. To the codes c that each gives, less their zero point,
// belongs a best scale in closed form,  sum h x c / sum h c^2,  which is what is compared. Around the best of them,
// neighbouring zero points are tried. At last the scale is rounded to what is stored, and the full range itself
// competes with it, so that weights which already are on a grid stay on it.
//
// Error compensation (Frantar et al., ICLR 2023): the error e of a rounded column j is made good by all columns k that
// are rounded after it:  w_k -= e / factor[j][j] * factor[k][j].  `factor` is lower triangular, in the order of
// rounding. The range of a group is found when its first column is to be rounded; with an `order`, before any is.
//
// weight: [rows, cols], finite.
// codes: [rows, cols], less the smallest code of the format; scale, zero_point: [rows, groups], float32;
// error: dequantized codes less the weight, [rows, cols]; all of them are written.
// forms: with a factor, error (factor factor')^-1 error' of each row, [rows], written; else null.
Largest weight_codes(const float* weight, std::int64_t rows, std::int64_t cols, const WeightFormat& format,
                     const Rounding& rounding, std::uint8_t* codes, float* scale, float* zero_point, float* error,
                     double* forms, int threads);

// x_r M x_r' of each row, with a symmetric matrix, of which the lower triangle is read.
//
// x: [rows, cols]; matrix: [cols, cols]; forms: [rows], written.
void quadratic_forms(const float* x, std::int64_t rows, std::int64_t cols, const float* matrix, double* forms,
                     int threads);

}  // namespace eqnet
