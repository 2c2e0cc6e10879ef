// y = x W^T + bias with packed weights.
#pragma once

#include <cstdint>

#include "eqnet/panels.h"

namespace eqnet {

enum class Element : int { kFloat32, kBfloat16 };

enum class Compute : int {
  kFloat,   // x as it is, up to 2^-31 of the largest in a segment of columns where rows are few; sums of segments in
            // float32
  kInt8,    // x rounded to int8 with a scale for each row and 32 columns of a group; sums of those in int32
  kStatic,  // x rounded to codes of one given scale and zero point
};

// How static activations are quantized: code = clamp(round(x / scale) + zero_point, qmin, qmax), of at most 8 bits.
struct StaticInput {
  float scale;
  std::int32_t zero_point;
  std::int32_t qmin;
  std::int32_t qmax;
};

// What is taken from a code so that it fits into int8.
inline std::int32_t static_offset(const StaticInput& input) { return input.qmax > 127 ? 128 : 0; }

// x, y: row-major [rows, shape.cols] and [rows, shape.rows] of `element`. bias: float32 [shape.rows], or null.
// input: for kStatic alone. correction: for kStatic alone, float32 [shape.rows]: the sum of each row of the dequantized
// weights. Nothing is written but y.
void linear(const Panels& weights, const void* x, void* y, Element element, std::int64_t rows, const float* bias,
            Compute compute, const StaticInput* input, const float* correction, int threads);

// The dequantized weights, float32 [shape.rows, shape.cols].
void dequantize_panels(const Panels& weights, float* out, int threads);

}  // namespace eqnet
