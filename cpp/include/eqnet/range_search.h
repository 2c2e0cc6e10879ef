// Where the range of a quantizer starts: the scale and zero point of least p-norm error.
#pragma once

#include <cstdint>

#include "eqnet/fake_quantize.h"

namespace eqnet {

// For each group, the scale (and zero point) that minimise  sum_i count_i * |x_i - dequantized(x_i)|^p.
//
// Candidates are the full range of the group times 1, 0.99, ... 0.21, 0.2, 0.18, 0.162, ... 0.005, until clipping
// makes them hopeless, and, if asymmetric, the zero points next to the best so far and those that clip one end only.
//
// x: [rows, cols], finite; count: [rows, cols] weights of the elements, or null for 1 each;
// scale, zero_point: [rows, groups], written. A group of zeros gets scale 1 and zero point 0. p > 0.
void range_search(const float* x, const float* count, float* scale, float* zero_point, const GroupedMatrix& shape,
                  float qmin, float qmax, float p);

}  // namespace eqnet
