// What becomes of the products of a panel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../linear/product.h"
#include "eqnet/decoder.h"

namespace eqnet {

// Calls body(row, sums) for the rows [first, first + count) times a panel.
template <class Body>
void each_sum(const Product& product, const Panels& weights, std::int64_t panel, std::int64_t first,
              std::int64_t count, const Body& body) {
  alignas(64) float sums[Product::kMostRows * kPanel];
  product.multiply(weights, panel, first, count, sums);
  for (std::int64_t row = 0; row < count; ++row) body(first + row, sums + row * kPanel);
}

// The channels of a panel that there are, with their bias.
struct Channels {
  std::int64_t first, count;
  const float* bias;  // of the first of them, or null

  Channels(const Projection& projection, std::int64_t panel)
      : first(panel * kPanel),
        count(std::min(kPanel, projection.weights.shape.rows - first)),
        bias(projection.bias == nullptr ? nullptr : projection.bias + first) {}

  void add_bias(float* sums) const {
    if (bias != nullptr) add(sums, bias);
  }
  // Most panels are full; how many channels these have is known when this is compiled.
  void add(float* __restrict to, const float* __restrict from) const {
    if (count == kPanel) {
      for (std::int64_t i = 0; i < kPanel; ++i) to[i] += from[i];
    } else {
      for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
    }
  }
  void copy(const float* from, float* to) const {
    if (count == kPanel) {
      std::memcpy(to, from, kPanel * sizeof(float));
    } else {
      std::copy_n(from, count, to);
    }
  }
};

}  // namespace eqnet
