// Fake quantization with learned scale and zero point: one pass forward, one pass backward.
//
// The tensor is a row-major matrix. Each row is cut into groups of `group_size` columns (the last may be
// shorter), and each group has one scale and one zero point. A whole tensor is one row with one group.
#pragma once

#include <cstdint>

namespace eqnet {

struct GroupedMatrix {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t group_size;  // columns that share a scale, 1 <= group_size

  std::int64_t groups() const { return (cols + group_size - 1) / group_size; }
};

// y = (clamp(round(x / scale) + zero, qmin, qmax) - zero) * scale,  zero = clamp(round(zero_point), qmin, qmax).
//
// x, y: [rows, cols]; scale > 0 and zero_point: [rows, groups]. Rounding is half-to-even. NaN gives NaN.
void fake_quantize(const float* x, const float* scale, const float* zero_point, float* y,
                   const GroupedMatrix& shape, float qmin, float qmax);

// Gradients of the above (LSQ, Esser et al. 2020, eq. 3; LSQ+, Bhalgat et al. 2020, eq. 5), given that of y.
// The rounding of x / scale and of the zero point are passed straight through.
//
// grad_y, x, grad_x: [rows, cols]; grad_scale, grad_zero_point: [rows, groups]. Sums do not depend on the
// number of threads.
void fake_quantize_backward(const float* grad_y, const float* x, const float* scale, const float* zero_point,
                            float* grad_x, float* grad_scale, float* grad_zero_point, const GroupedMatrix& shape,
                            float qmin, float qmax);

}  // namespace eqnet
