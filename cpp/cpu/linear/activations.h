// Activations as the linear kernels read them: in the padded columns of a PanelShape.
#pragma once

#include <cstdint>

#include "eqnet/linear.h"
#include "kernels.h"
#include "scratch.h"

namespace eqnet {

// Prepared rows of one call, in memory of the calling thread. One object serves call after call.
class Activations {
 public:
  // At least `padded_rows` rows are made; those past `rows` are 0.
  void prepare(const LinearKernels& kernels, const PanelShape& shape, const void* x, Element element,
               std::int64_t rows, std::int64_t padded_rows, Compute compute, const StaticInput* input, int threads);

  const Int8Rows& int8_rows() const { return int8_rows_; }
  const FloatRows& float_rows() const { return float_rows_; }

 private:
  Scratch floats_, values_, scales_, sums_;
  Int8Rows int8_rows_{};
  FloatRows float_rows_{};
};

}  // namespace eqnet
