// Rows made ready for several weights that are multiplied by them: once for those of one layout.
#pragma once

#include <cstdint>

#include "../linear/product.h"

namespace eqnet {

class Inputs {
 public:
  // x: float32 [rows, columns of the weights].
  void prepare(const Panels* const* weights, int count, const float* x, std::int64_t rows, Compute compute,
               int threads) {
    for (int i = 0; i < count; ++i) {
      source_[i] = i;
      for (int j = i - 1; j >= 0; --j) {
        if (same_layout(weights[i]->shape, weights[j]->shape)) source_[i] = source_[j];
      }
      if (source_[i] == i) {
        products_[i].prepare(weights[i]->shape, x, Element::kFloat32, rows, compute, nullptr, threads);
      }
    }
  }

  // What a weight is multiplied by. All have their rows cut in the same way.
  const Product& of(int weight) const { return products_[source_[weight]]; }

 private:
  Product products_[Product::kMostWeights];
  int source_[Product::kMostWeights] = {};
};

}  // namespace eqnet
