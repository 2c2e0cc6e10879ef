// What the kernels that multiply are given, and how their results end.
#pragma once

#include <cstdint>

#include "launch.h"
#include "tiles.h"

namespace eqnet::cuda {

// y = activation(x W^T + bias).
template <typename T>
struct Product {
  Tiles weight;
  const T* x;         // [tokens, 64 · col_tiles], 0 where columns are padding
  const float* bias;  // [rows], or null
  T* y;               // [tokens, rows]
  int tokens;
  int activation;      // one of eqnet/cuda.h
  float* memory;       // sums of parts of the columns, as the kernel needs it
  unsigned* counters;  // 0 before and after
};

// Memory beside the operands.
struct Needs {
  std::int64_t bytes;
  std::int64_t counters;
};

__device__ __forceinline__ float activated(float x, int activation) {
  switch (activation) {
    case EQNET_RELU:
      return x > 0.0f ? x : (x == x ? 0.0f : x);
    case EQNET_SILU:
      return __fdividef(x, 1.0f + __expf(-x));
    case EQNET_GELU:
      return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case EQNET_GELU_TANH: {
      // tanh(u) = 1 - 2 / (1 + e^2u), which is right at both ends.
      const float u = 0.79788456f * (x + 0.044715f * x * x * x);
      return 0.5f * x * (2.0f - __fdividef(2.0f, 1.0f + __expf(2.0f * u)));
    }
    default:
      return x;
  }
}

// A sum of products, ready to be stored.
template <typename T>
__device__ __forceinline__ T finished(float sum, const Product<T>& product, int row) {
  if (product.bias != nullptr) sum += load(product.bias + row);
  return from_float<T>(activated(sum, product.activation));
}

}  // namespace eqnet::cuda
