// Activations as the linear kernels read them: in the padded columns of a PanelShape.
#pragma once

#include <cstdint>

#include "eqnet/linear.h"
#include "kernels.h"
#include "scratch.h"

namespace eqnet {

enum class Form {
  kFloats,  // float_rows, as they are
  kDigits,  // int8_rows, kDigits of them for each row, whose sum it is
  kInt8,    // int8_rows, rounded by segment
  kStatic,  // int8_rows, codes of one scale and zero point
};

// Prepared rows of one call, in memory of the calling thread. One object serves call after call.
class Activations {
 public:
  // `rows` of x; in forms of int8, `made` rows are made of them, the last ones 0 where there are more than needed.
  void prepare(const LinearKernels& kernels, const PanelShape& shape, const void* x, Element element, std::int64_t rows,
               std::int64_t made, Form form, const StaticInput* input, int threads);

  const Int8Rows& int8_rows() const { return int8_rows_; }
  const FloatRows& float_rows() const { return float_rows_; }

 private:
  Scratch floats_, values_, scales_, sums_;
  Int8Rows int8_rows_{};
  FloatRows float_rows_{};
};

}  // namespace eqnet
