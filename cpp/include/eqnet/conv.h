// Convolutions on integers: 2-d, of any kernel, stride, dilation and grouping; linear layers are those of one pixel.
//
// A layer computes  sum (w - w_zero) * w_scale * (x - zero) * scale + bias  from unsigned 8-bit codes x, in NHWC order.
// The sums are exact. What is read next decides in which forms the result is written: as codes, once for each scale
// that a later layer reads it with, and in floating point.
#pragma once

#include <cstdint>
#include <memory>

#include "eqnet/isa.h"

namespace eqnet {

constexpr int kMaxTargets = 4;                     // scales with which one result can be read
constexpr std::int64_t kMaxConvInputs = 32768;     // of one output: 255 * 255 of each fit into the 32 bits of a sum
constexpr std::int64_t kSlack = 64;                // bytes that kernels may read beyond the last code

// How a value becomes a code: clamp(round(value / scale) + zero, low, high), half to even.
struct Coding {
  float scale;
  float inverse_scale;
  std::int32_t zero;  // 0 to 255
  std::uint8_t low;   // an activation such as ReLU is in these bounds already: rounding is monotone
  std::uint8_t high;
};

// What happens to the sums of a layer.
struct Finish {
  int targets;  // codings in use
  Coding coding[kMaxTargets];
  bool has_value;     // also write floating point
  bool has_residual;  // add floating point first
  bool scaled;        // values arrive divided by the scale of the one target, and nothing else is wanted
  float low, high;    // bounds of the floating-point result: the activation
};

struct Pads {
  std::int64_t top = 0, left = 0, bottom = 0, right = 0;
};

// Images of codes, [images, pads.top + height + pads.bottom, pads.left + width + pads.right, channels].
struct CodeLayout {
  std::int64_t height, width, channels;
  Pads pads;

  std::int64_t row() const { return (pads.left + width + pads.right) * channels; }
  std::int64_t image() const { return (pads.top + height + pads.bottom) * row(); }
  std::int64_t origin() const { return pads.top * row() + pads.left * channels; }  // of the first pixel
};

struct ConvShape {
  std::int64_t in_channels, out_channels, groups;
  std::int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  Pads pads;

  std::int64_t cols() const { return in_channels / groups * kernel_h * kernel_w; }  // inputs of one output
  std::int64_t out_height(std::int64_t height) const {
    return (height + pads.top + pads.bottom - dilation_h * (kernel_h - 1) - 1) / stride_h + 1;
  }
  std::int64_t out_width(std::int64_t width) const {
    return (width + pads.left + pads.right - dilation_w * (kernel_w - 1) - 1) / stride_w + 1;
  }
};

struct ConvWeights {
  const std::int16_t* weight;  // code less zero point, -255 to 255 and within 255 of each other in a group,
                               // [out_channels, in_channels / groups, kernel_h, kernel_w]
  const float* scale;          // [out_channels, scale groups]
  std::int64_t group_size;     // consecutive inputs of one output that share a scale
  const float* bias;           // [out_channels]
  float input_scale;
  std::int32_t input_zero;     // 0 to 255
};

// Where one target goes.
struct CodeTarget {
  std::uint8_t* data;  // the first pixel
  std::int64_t row, image;
};

// One call: some images in, their results out. Floating point is dense NHWC.
struct ConvCall {
  std::int64_t images;
  CodeLayout layout;          // of the input, padded as the shape says
  const std::uint8_t* input;  // with its padding, which holds the zero point; kSlack bytes more can be read
  CodeTarget code[kMaxTargets];
  float* value;
  const float* residual;
};

class Convolution {
 public:
  // Copies the weights into the order of the best kernels that are not above `isa`.
  static std::unique_ptr<Convolution> make(const ConvShape& shape, const ConvWeights& weights, Isa isa);

  virtual ~Convolution() = default;
  // To be called before the first run.
  virtual void set_finish(const Finish& finish) = 0;
  // Into how many parts, at most and about `wanted`, a call is best split. Parts can run in any order, at once.
  virtual std::int64_t parts(const ConvCall& call, std::int64_t wanted) const = 0;
  virtual void run(const ConvCall& call, std::int64_t part, std::int64_t parts) const = 0;
};

// Writes `count` values, contiguous in all forms. `code`: one pointer for each target.
void finish_values(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code,
                   float* value, Isa isa);

}  // namespace eqnet
