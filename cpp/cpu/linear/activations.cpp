#include "activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "eqnet/threads.h"

namespace eqnet {
namespace {

// Rows a power of two apart would share a few sets of the cache.
constexpr std::int64_t kApart = 64;  // bytes

// Below this many elements, waking another thread costs more than it saves.
constexpr std::int64_t kSerial = 16384;

void to_float(const void* x, std::int64_t first, std::int64_t count, Element element, float* out) {
  if (element == Element::kFloat32) {
    std::memcpy(out, static_cast<const float*>(x) + first, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const std::uint16_t* from = static_cast<const std::uint16_t*>(x) + first;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(from[i]) << 16;
    std::memcpy(out + i, &bits, sizeof(float));
  }
}

// One row in padded columns.
void pad_row(const PanelShape& shape, const void* x, Element element, std::int64_t row, float* out) {
  const std::int64_t padded = shape.padded_cols();
  for (std::int64_t group = 0, end = 0; group < shape.groups(); ++group) {
    const std::int64_t first = group * shape.group_size;
    const std::int64_t size = std::min(shape.group_size, shape.cols - first);
    const std::int64_t start = shape.group_start(group);
    std::fill(out + end, out + start, 0.0f);
    to_float(x, row * shape.cols + first, size, element, out + start);
    end = start + size;
    if (group + 1 == shape.groups()) std::fill(out + end, out + padded, 0.0f);
  }
}

// Padding has code 0 here, as its weights are not part of any correction for the zero point.
void quantize_static(const PanelShape& shape, const StaticInput& input, const float* x, std::int8_t* values) {
  // Unsigned codes of 8 bits are moved into the range of int8; see `linear`.
  const std::int32_t offset = static_offset(input);
  std::memset(values, 0, static_cast<std::size_t>(shape.padded_cols()));
  for (std::int64_t group = 0; group < shape.groups(); ++group) {
    const std::int64_t start = shape.group_start(group);
    const std::int64_t size = std::min(shape.group_size, shape.cols - group * shape.group_size);
    const auto low = static_cast<float>(input.qmin), high = static_cast<float>(input.qmax);
    const auto zero = static_cast<float>(input.zero_point);
    for (std::int64_t i = start; i < start + size; ++i) {
      const float code = std::min(std::max(std::rint(x[i] / input.scale) + zero, low), high);
      values[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(code) - offset);
    }
  }
}

}  // namespace

void Activations::prepare(const LinearKernels& kernels, const PanelShape& shape, const void* x, Element element,
                          std::int64_t rows, std::int64_t padded_rows, Compute compute, const StaticInput* input,
                          int threads) {
  const std::int64_t padded = shape.padded_cols();
  const std::int64_t segments = shape.segments();
  const std::int64_t segment_cols = shape.segment_cols();
  const bool integers = compute != Compute::kFloat;
  const std::int64_t float_stride = padded + kApart / static_cast<std::int64_t>(sizeof(float));
  const std::int64_t int8_stride = padded + kApart;
  auto* floats = floats_.get<float>(padded_rows * float_stride);
  auto* values = integers ? values_.get<std::int8_t>(padded_rows * int8_stride) : nullptr;
  auto* scale = scales_.get<float>(padded_rows * segments);
  auto* sums = sums_.get<std::int32_t>(padded_rows * segments);

  parallel_for(padded_rows, rows * shape.cols > kSerial ? threads : 1, [&](std::int64_t row) {
    float* here = floats + row * float_stride;
    if (row >= rows) {
      std::memset(scale + row * segments, 0, static_cast<std::size_t>(segments) * sizeof(float));
      std::memset(sums + row * segments, 0, static_cast<std::size_t>(segments) * sizeof(std::int32_t));
      if (integers) {
        std::memset(values + row * int8_stride, 0, static_cast<std::size_t>(int8_stride));
      } else {
        std::memset(here, 0, static_cast<std::size_t>(float_stride) * sizeof(float));
      }
      return;
    }
    pad_row(shape, x, element, row, here);
    switch (compute) {
      case Compute::kInt8:
        kernels.quantize(here, segments, segment_cols, values + row * int8_stride, scale + row * segments,
                         sums + row * segments);
        break;
      case Compute::kStatic:
        quantize_static(shape, *input, here, values + row * int8_stride);
        for (std::int64_t s = 0; s < segments; ++s) {
          const std::int8_t* part = values + row * int8_stride + s * segment_cols;
          std::int32_t sum = 0;
          for (std::int64_t i = 0; i < segment_cols; ++i) sum += part[i];
          scale[row * segments + s] = input->scale;
          sums[row * segments + s] = -sum;
        }
        break;
      case Compute::kFloat:
        for (std::int64_t s = 0; s < segments; ++s) {
          double sum = 0.0;
          for (std::int64_t i = 0; i < segment_cols; ++i) sum += here[s * segment_cols + i];
          scale[row * segments + s] = static_cast<float>(-sum);  // the place of minus_sum here
        }
        break;
    }
  });
  int8_rows_ = {values, int8_stride, scale, sums, segments};
  float_rows_ = {floats, float_stride, scale, segments};
}

}  // namespace eqnet
