#include "activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "../multiversion.h"
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

// One row in padded columns, which are put into `out` unless that is null: x has them already.
const float* pad_row(const PanelShape& shape, const void* x, Element element, std::int64_t row, float* out) {
  if (out == nullptr) return static_cast<const float*>(x) + row * shape.cols;
  std::int64_t end = 0;
  for (std::int64_t group = 0; group < shape.groups(); ++group) {
    const std::int64_t first = group * shape.group_size;
    const std::int64_t size = std::min(shape.group_size, shape.cols - first);
    const std::int64_t start = shape.group_start(group);
    std::fill(out + end, out + start, 0.0f);
    to_float(x, row * shape.cols + first, size, element, out + start);
    end = start + size;
  }
  std::fill(out + end, out + shape.padded_cols(), 0.0f);
  return out;
}

// Codes of one scale and zero point, less `offset`; whether any x is NaN, which integers could not tell.
EQNET_MULTIVERSION
bool to_codes(const float* __restrict x, std::int64_t count, float scale, float zero, float low, float high,
              std::int32_t offset, std::int8_t* __restrict codes) {
  int nan = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float code = std::rint(x[i] / scale) + zero;
    nan |= x[i] != x[i];
    const float bounded = code > low ? (code < high ? code : high) : low;  // NaN becomes `low`
    codes[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(bounded) - offset);
  }
  return nan != 0;
}

// Padding has code 0 here, as its weights are not part of any correction for the zero point.
void quantize_static(const PanelShape& shape, const Segments& segments, const StaticInput& input, const float* x,
                     std::int8_t* values, float* scale, std::int32_t* minus_sum) {
  std::memset(values, 0, static_cast<std::size_t>(shape.padded_cols()));
  bool nan = false;
  for (std::int64_t group = 0; group < shape.groups(); ++group) {
    const std::int64_t start = shape.group_start(group);
    const std::int64_t size = std::min(shape.group_size, shape.cols - group * shape.group_size);
    nan |= to_codes(x + start, size, input.scale, static_cast<float>(input.zero_point), static_cast<float>(input.qmin),
                    static_cast<float>(input.qmax), static_offset(input), values + start);
  }
  for (std::int64_t s = 0; s < segments.count; ++s) {
    const std::int8_t* part = values + s * segments.cols;
    scale[s] = nan ? std::numeric_limits<float>::quiet_NaN() : input.scale;
    minus_sum[s] = -std::accumulate(part, part + segments.cols, std::int32_t{0});
  }
}

}  // namespace

Segments Segments::of(const PanelShape& shape, std::int64_t most) {
  if (shape.half_blocks()) return {0, kBlock / 2, 2 * shape.blocks()};
  std::int64_t blocks = std::min(most, shape.group_blocks());
  while (shape.group_blocks() % blocks != 0) --blocks;
  return {blocks, blocks * kBlock, shape.blocks() / blocks};
}

void Activations::prepare(const LinearKernels& kernels, const PanelShape& shape, const void* x, Element element,
                          std::int64_t rows, std::int64_t made, Form form, const StaticInput* input, int threads) {
  // One scale for many columns would leave all but the largest of a row hardly any codes; digits leave nothing out.
  const Segments segments = Segments::of(shape, form == Form::kInt8 ? 1 : kMostBlocks);
  const std::int64_t count = segments.count;
  const std::int64_t float_stride = shape.padded_cols() + kApart / static_cast<std::int64_t>(sizeof(float));
  const std::int64_t int8_stride = shape.padded_cols() + kApart;
  const std::int64_t per_row = form == Form::kDigits ? kDigits : 1;
  const bool integers = form != Form::kFloats;
  const bool padded = !integers || element != Element::kFloat32 || shape.padded_cols() != shape.cols;
  float* floats = padded ? floats_.get<float>(rows * float_stride) : nullptr;
  auto* values = values_.get<std::int8_t>(integers ? made * int8_stride : 0);
  auto* scale = scales_.get<float>(integers ? made * count : 0);
  auto* sums = sums_.get<std::int32_t>(integers ? made * count : 0);

  parallel_for(rows, rows * shape.cols > kSerial ? threads : 1, [&](std::int64_t row) {
    const float* here = pad_row(shape, x, element, row, padded ? floats + row * float_stride : nullptr);
    const std::int64_t first = row * per_row;
    std::int8_t* to = values + first * int8_stride;
    switch (form) {
      case Form::kFloats: break;
      case Form::kInt8:
        kernels.quantize(here, count, segments.cols, to, scale + first * count, sums + first * count);
        break;
      case Form::kDigits:
        kernels.split(here, count, segments.cols, to, int8_stride, scale + first * count, sums + first * count);
        break;
      case Form::kStatic:
        quantize_static(shape, segments, *input, here, to, scale + first * count, sums + first * count);
        break;
    }
  });
  if (integers) {
    const std::int64_t used = rows * per_row;
    std::fill(values + used * int8_stride, values + made * int8_stride, std::int8_t{0});
    std::fill(scale + used * count, scale + made * count, 0.0f);
    std::fill(sums + used * count, sums + made * count, 0);
  }
  int8_rows_ = {values, int8_stride, scale, sums, segments};
  float_rows_ = {floats, float_stride};
}

}  // namespace eqnet
