#include "eqnet/linear.h"

#include <algorithm>
#include <cstring>

#include "eqnet/threads.h"
#include "product.h"
#include "scratch.h"

namespace eqnet {
namespace {

std::uint16_t to_bfloat(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40);  // a quiet NaN
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);                   // half to even
}

// Where results go.
struct Output {
  void* y;
  Element element;
  std::int64_t cols;
  const float* bias;        // or null
  const float* correction;  // or null
  float correction_scale;

  // Stores the sums of one panel for one row.
  void store(std::int64_t row, std::int64_t panel, const float* sums) const {
    const std::int64_t first = panel * kPanel;
    const std::int64_t count = std::min(kPanel, cols - first);
    float values[kPanel];
    for (std::int64_t i = 0; i < count; ++i) {
      values[i] = sums[i];
      if (correction != nullptr) values[i] += correction_scale * correction[first + i];
      if (bias != nullptr) values[i] += bias[first + i];
    }
    if (element == Element::kFloat32) {
      std::memcpy(static_cast<float*>(y) + row * cols + first, values, static_cast<std::size_t>(count) * sizeof(float));
    } else {
      std::uint16_t* to = static_cast<std::uint16_t*>(y) + row * cols + first;
      for (std::int64_t i = 0; i < count; ++i) to[i] = to_bfloat(values[i]);
    }
  }
};

}  // namespace

void linear(const Panels& weights, const void* x, void* y, Element element, std::int64_t rows, const float* bias,
            Compute compute, const StaticInput* input, const float* correction, int threads) {
  static thread_local Product product;
  Output output{y, element, weights.shape.rows, bias, nullptr, 0.0f};
  if (compute == Compute::kStatic) {
    // sum w (code - zero) = sum w (code - offset) - (zero - offset) sum w
    output.correction = correction;
    output.correction_scale = -input->scale * static_cast<float>(input->zero_point - static_offset(*input));
  }
  if (rows == 0 || weights.shape.rows == 0) return;
  product.prepare(weights.shape, x, element, rows, compute, input, threads);
  const Panels* only = &weights;
  product.each_panel(&only, 1, 1, threads,
                     [&, prepared = &product](int, std::int64_t panel, std::int64_t first, std::int64_t count) {
                       alignas(64) float sums[Product::kMostRows * kPanel];
                       prepared->multiply(weights, panel, first, count, sums);
                       for (std::int64_t row = 0; row < count; ++row) {
                         output.store(first + row, panel, sums + row * kPanel);
                       }
                     });
}

void dequantize_panels(const Panels& weights, float* out, int threads) {
  const LinearKernels& table = linear_kernels();
  const PanelShape& shape = weights.shape;
  parallel_for(shape.panels(), threads, [&](std::int64_t panel) {
    static thread_local Scratch memory;
    const std::int64_t rows = std::min(kPanel, shape.rows - panel * kPanel);
    auto* tile = memory.get<float>(shape.padded_cols() * kPanel);
    table.unpack[shape.bits](weights, panel, 0, shape.blocks(), tile);
    for (std::int64_t group = 0; group < shape.groups(); ++group) {
      const std::int64_t column = group * shape.group_size;
      const std::int64_t size = std::min(shape.group_size, shape.cols - column);
      const float* from = tile + shape.group_start(group) * kPanel;
      for (std::int64_t r = 0; r < rows; ++r) {
        float* to = out + (panel * kPanel + r) * shape.cols + column;
        for (std::int64_t i = 0; i < size; ++i) to[i] = from[i * kPanel + r];
      }
    }
  });
}

}  // namespace eqnet
