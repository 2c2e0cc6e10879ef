#include "eqnet/conv.h"

#include <stdexcept>
#include <string>

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
#elif defined(__aarch64__)
    {Isa::kNeon, &kNeonKernels},
#endif
    {Isa::kPortable, &kPortableKernels},
};

}  // namespace

const Kernels& kernels(Isa isa) {
  for (const Entry& entry : kEntries) {
    if (entry.isa <= isa) return *entry.kernels;
  }
  return kPortableKernels;
}

void Finished::set_finish(const Finish& finish) {
  finish_ = finish;
  const float factor = finish.scaled ? finish.coding[0].inverse_scale : 1.0f;
  multiplier_ = base_multiplier_;
  bias_ = base_bias_;
  for (float& x : multiplier_) x *= factor;
  for (float& x : bias_) x *= factor;
}

Cursor::Cursor(const ConvShape& shape, const ConvCall& call, const Finish& finish, std::int64_t first,
               std::int64_t in_channel, std::int64_t out_channel)
    : shape_(shape),
      call_(call),
      in_channel_(in_channel),
      out_channel_(out_channel),
      in_step_(shape.stride_w * shape.in_channels),
      out_step_(shape.out_channels),
      height_(shape.out_height(call.layout.height)),
      width_(shape.out_width(call.layout.width)),
      image_(first / (width_ * height_)),
      y_(first / width_ % height_),
      x_(first % width_),
      targets_(finish.targets),
      has_floats_(finish.has_value || finish.has_residual) {
  value_ = finish.has_value ? call.value + first * out_step_ + out_channel : nullptr;
  residual_ = finish.has_residual ? call.residual + first * out_step_ + out_channel : nullptr;
  seek();
  input_ += x_ * in_step_;
  for (int t = 0; t < targets_; ++t) code_[t] += x_ * out_step_;
}

void Cursor::seek() {
  input_ = call_.input + image_ * call_.layout.image() + y_ * shape_.stride_h * call_.layout.row() + in_channel_;
  for (int t = 0; t < targets_; ++t) {
    const CodeTarget& target = call_.code[t];
    code_[t] = target.data + image_ * target.image + y_ * target.row + out_channel_;
  }
}

void Cursor::next_row() {
  x_ = 0;
  if (++y_ == height_) {
    y_ = 0;
    ++image_;
  }
  seek();
}

}  // namespace conv

std::unique_ptr<Convolution> Convolution::make(const ConvShape& shape, const ConvWeights& weights, Isa isa) {
  if (shape.cols() > kMaxConvInputs) {
    throw std::invalid_argument("an output with " + std::to_string(shape.cols()) + " inputs; sums in 32 bits hold " +
                                std::to_string(kMaxConvInputs));
  }
  const bool one_scale = weights.group_size >= shape.cols();
  if (shape.groups > 1 && shape.groups == shape.in_channels && shape.groups == shape.out_channels && one_scale) {
    return std::make_unique<conv::Depthwise>(shape, weights, conv::kernels(isa));
  }
  return std::make_unique<conv::Dense>(shape, weights, conv::kernels(isa));
}

void finish_values(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code,
                   float* value, Isa isa) {
  conv::kernels(isa).finish(values, count, finish, code, value);
}

}  // namespace eqnet
