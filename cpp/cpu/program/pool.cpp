#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "operation.h"

namespace eqnet::program {
namespace {

// Adds or takes the greater of `count` channels.
void gather(PoolKind kind, const float* from, std::int64_t count, float* to) {
  if (kind == PoolKind::kMax) {
    for (std::int64_t c = 0; c < count; ++c) to[c] = std::max(to[c], from[c]);
  } else {
    for (std::int64_t c = 0; c < count; ++c) to[c] += from[c];
  }
}

class Pool final : public Operation {
 public:
  Pool(int x, const PoolShape& shape) : Operation({x}), shape_(shape) {}

  ImageSize size(const std::vector<ImageSize>& inputs) const override {
    const ImageSize& x = inputs[0];
    if (shape_.whole_image) return {x.channels, 1, 1};
    const std::int64_t height = x.height + shape_.pads.top + shape_.pads.bottom - shape_.kernel_h;
    const std::int64_t width = x.width + shape_.pads.left + shape_.pads.right - shape_.kernel_w;
    if (height < 0 || width < 0) {
      throw std::invalid_argument("a pooling of " + std::to_string(shape_.kernel_h) + "x" +
                                  std::to_string(shape_.kernel_w) + " of an image of " + std::to_string(x.height) +
                                  "x" + std::to_string(x.width));
    }
    return {x.channels, height / shape_.stride_h + 1, width / shape_.stride_w + 1};
  }

  void run(const Frame& frame, std::int64_t part, std::int64_t parts) const override {
    const ImageSize &from = frame.placed(inputs[0]).size, &to = frame.placed(output).size;
    const float* x = frame.floats(inputs[0]);
    std::vector<float> row(to.width * to.channels);
    const std::int64_t rows = frame.images * to.height;
    for (std::int64_t r = rows * part / parts; r < rows * (part + 1) / parts; ++r) {
      const std::int64_t image = r / to.height, y = r % to.height;
      for (std::int64_t i = 0; i < to.width; ++i) {
        pixel(x + image * from.height * from.width * from.channels, from, y, i, row.data() + i * to.channels);
      }
      frame.write_row(output, image, y, row.data(), finish);
    }
  }

 private:
  void pixel(const float* image, const ImageSize& size, std::int64_t y, std::int64_t x, float* to) const {
    std::int64_t top = 0, bottom = size.height, left = 0, right = size.width, count = bottom * right;
    if (!shape_.whole_image) {
      top = y * shape_.stride_h - shape_.pads.top;
      left = x * shape_.stride_w - shape_.pads.left;
      bottom = std::min(top + shape_.kernel_h, size.height);
      right = std::min(left + shape_.kernel_w, size.width);
      top = std::max<std::int64_t>(top, 0);
      left = std::max<std::int64_t>(left, 0);
      count = shape_.count_padding ? shape_.kernel_h * shape_.kernel_w : (bottom - top) * (right - left);
    }
    const float start = shape_.kind == PoolKind::kMax ? -std::numeric_limits<float>::infinity() : 0.0f;
    std::fill_n(to, size.channels, start);
    for (std::int64_t i = top; i < bottom; ++i) {
      for (std::int64_t j = left; j < right; ++j) {
        gather(shape_.kind, image + (i * size.width + j) * size.channels, size.channels, to);
      }
    }
    if (shape_.kind == PoolKind::kMean) {
      for (std::int64_t c = 0; c < size.channels; ++c) to[c] /= static_cast<float>(count);
    }
  }

  PoolShape shape_;
};

}  // namespace

std::unique_ptr<Operation> make_pool(int x, const PoolShape& shape) { return std::make_unique<Pool>(x, shape); }

}  // namespace eqnet::program
