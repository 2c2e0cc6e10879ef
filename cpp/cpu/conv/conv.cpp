#include "eqnet/conv.h"

#include <stdexcept>
#include <string>

#include "eqnet/isa.h"
#include "layers.h"

namespace eqnet {
namespace conv {
namespace {

struct Entry {
  Isa isa;
  const Kernels* kernels;
};

// Best first.
const Entry kEntries[] = {
#if defined(__x86_64__)
    {Isa::kAvx512Vnni, &kAvx512Kernels},
    {Isa::kAvx2, &kAvx2Kernels},
#endif
    {Isa::kPortable, &kPortableKernels},
};

}  // namespace

const Kernels& kernels() {
  for (const Entry& entry : kEntries) {
    if (entry.isa <= isa()) return *entry.kernels;
  }
  return kPortableKernels;
}

Cursor::Cursor(const ConvShape& shape, const ConvCall& call, const Finish& finish, std::int64_t first)
    : shape_(shape), call_(call), finish_(finish) {
  out_height_ = shape.out_height(call.layout.height);
  out_width_ = shape.out_width(call.layout.width);
  x_ = first % out_width_;
  y_ = first / out_width_ % out_height_;
  image_ = first / (out_width_ * out_height_);
}

void Cursor::take(int i, std::int64_t in_channel, std::int64_t out_channel, const std::uint8_t** input,
                  Output& output) {
  input[i] = call_.input + image_ * call_.layout.image() + y_ * shape_.stride_h * call_.layout.row() +
             x_ * shape_.stride_w * call_.layout.channels + in_channel;
  for (int t = 0; t < finish_.targets; ++t) {
    const CodeTarget& target = call_.code[t];
    output.code[t][i] =
        target.data + image_ * target.image + y_ * target.row + x_ * shape_.out_channels + out_channel;
  }
  if (finish_.has_value || finish_.has_residual) {
    const std::int64_t at = ((image_ * out_height_ + y_) * out_width_ + x_) * shape_.out_channels + out_channel;
    if (finish_.has_value) output.value[i] = call_.value + at;
    if (finish_.has_residual) output.residual[i] = call_.residual + at;
  }
  if (++x_ == out_width_) {
    x_ = 0;
    if (++y_ == out_height_) {
      y_ = 0;
      ++image_;
    }
  }
}

}  // namespace conv

std::unique_ptr<Convolution> Convolution::make(const ConvShape& shape, const ConvWeights& weights) {
  if (shape.cols() > kMaxConvInputs) {
    throw std::invalid_argument("an output with " + std::to_string(shape.cols()) + " inputs; sums in 32 bits hold " +
                                std::to_string(kMaxConvInputs));
  }
  const bool one_scale = weights.group_size >= shape.cols();
  if (shape.groups > 1 && shape.groups == shape.in_channels && shape.groups == shape.out_channels && one_scale) {
    return std::make_unique<conv::Depthwise>(shape, weights, conv::kernels());
  }
  return std::make_unique<conv::Dense>(shape, weights, conv::kernels());
}

void finish_values(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code,
                   float* value) {
  conv::kernels().finish(values, count, finish, code, value);
}

}  // namespace eqnet
