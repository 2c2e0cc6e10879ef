// A whole convolutional network on integers.
//
// A program is a list of operations on values. A value stands for a floating-point image [channels, height, width], or
// for a vector, which is an image of one pixel. It is kept only in the forms that its readers need: as codes with the
// scale and padding of each layer that reads it, and in floating point. Who produces a value writes all of its forms at
// once. Forms share one piece of memory, planned for the size of the image.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "eqnet/conv.h"

namespace eqnet {

// What an activation leaves of a value: min(max(value, low), high).
struct Bounds {
  float low, high;
};

struct InputCoding {
  float scale;
  std::int32_t zero;    // 0 to 255
  std::int32_t levels;  // codes are 0 to levels - 1
};

enum class PoolKind : int { kMax, kMean };

struct PoolShape {
  PoolKind kind;
  bool whole_image;  // the rest counts only if not
  std::int64_t kernel_h, kernel_w, stride_h, stride_w;
  Pads pads;
  bool count_padding;  // of a mean
};

struct ImageSize {
  std::int64_t channels, height, width;
};

class Program {
 public:
  using Value = int;

  // Runs on the best kernels that are not above `isa`.
  Program(std::int64_t in_channels, Isa isa);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Each adds an operation and returns its result. Throws std::invalid_argument if it cannot be.
  Value input() const { return 0; }
  // `residual` is added to the result before it is bounded; -1 if there is none.
  Value convolution(Value x, const ConvShape& shape, const ConvWeights& weights, std::int32_t levels, Value residual,
                    Bounds bounds);
  Value add(Value a, Value b, Bounds bounds);
  Value bound(Value x, Bounds bounds);
  Value pool(Value x, const PoolShape& shape, Bounds bounds);
  Value concatenate(const std::vector<Value>& values);
  Value flatten(Value x);  // [channels, height, width] to one pixel
  // The result of the program. Nothing can be added afterwards.
  void finish(Value result);

  // Of the result for images of a size. Throws std::invalid_argument if they do not fit.
  ImageSize result_size(std::int64_t height, std::int64_t width);

  // Bytes of memory that one image of this size takes while it is computed.
  std::int64_t arena_bytes(std::int64_t height, std::int64_t width);

  // x: [images, in_channels, height, width]; y: [images, channels, height, width] of the result. One call at a time:
  // a second one waits.
  void run(const float* x, std::int64_t images, std::int64_t height, std::int64_t width, float* y, int threads);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace eqnet
