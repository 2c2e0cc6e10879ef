#include "eqnet/fake_quantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "multiversion.h"

namespace eqnet {
namespace {

// Elements that one thread takes at a time. Fixed, so that partial sums are the same for any number of threads;
// 16 Ki floats of x, grad_y and grad_x together stay within a 256 KiB cache.
constexpr std::int64_t kChunk = 16384;

// Below this many elements, waking another thread costs more than it saves.
constexpr std::int64_t kSerial = 32768;

struct Sums {
  float scale;
  float zero_point;
};

EQNET_MULTIVERSION
void forward_chunk(const float* __restrict x, float* __restrict y, std::int64_t n, float scale, float zero, float qmin,
                   float qmax) {
  for (std::int64_t i = 0; i < n; ++i) {
    float code = std::rint(x[i] / scale) + zero;
    code = code < qmin ? qmin : code;  // written so that NaN fails both comparisons and stays NaN
    code = code > qmax ? qmax : code;
    y[i] = (code - zero) * scale;
  }
}

EQNET_MULTIVERSION
Sums backward_chunk(const float* __restrict grad_y, const float* __restrict x, float* __restrict grad_x,
                    std::int64_t n, float scale, float zero, float qmin, float qmax) {
  float scale_sum = 0.0f;
  float clipped_sum = 0.0f;
#pragma omp simd reduction(+ : scale_sum, clipped_sum)
  for (std::int64_t i = 0; i < n; ++i) {
    const float ratio = x[i] / scale;
    const float rounded = std::rint(ratio);
    const float code = rounded + zero;
    const bool inside = code >= qmin && code <= qmax;
    const float bound = (code < qmin ? qmin : qmax) - zero;
    grad_x[i] = inside ? grad_y[i] : 0.0f;
    scale_sum += grad_y[i] * (inside ? rounded - ratio : bound);
    clipped_sum += inside ? 0.0f : grad_y[i];
  }
  return {scale_sum, -scale * clipped_sum};
}

// The matrix as a list of chunks, none of which crosses from one group into another.
class Chunks {
 public:
  struct Chunk {
    std::int64_t start;  // first element, counted over the whole matrix
    std::int64_t size;
    std::int64_t group;  // index into scale and zero point
  };

  explicit Chunks(const GroupedMatrix& shape)
      : shape_(shape),
        groups_(shape.groups()),
        per_group_((std::min(shape.group_size, shape.cols) + kChunk - 1) / kChunk) {}

  std::int64_t count() const { return shape_.rows * groups_ * per_group_; }
  std::int64_t per_group() const { return per_group_; }

  Chunk operator[](std::int64_t index) const {
    const std::int64_t group = index / per_group_;
    const std::int64_t row = group / groups_;
    const std::int64_t first = (group % groups_) * shape_.group_size;
    const std::int64_t begin = std::min(first + (index % per_group_) * kChunk, shape_.cols);
    const std::int64_t end = std::min({begin + kChunk, first + shape_.group_size, shape_.cols});
    return {row * shape_.cols + begin, std::max<std::int64_t>(end - begin, 0), group};
  }

 private:
  GroupedMatrix shape_;
  std::int64_t groups_;
  std::int64_t per_group_;
};

float integer_zero_point(float zero_point, float qmin, float qmax) {
  return std::min(std::max(std::rint(zero_point), qmin), qmax);
}

}  // namespace

void fake_quantize(const float* x, const float* scale, const float* zero_point, float* y, const GroupedMatrix& shape,
                   float qmin, float qmax) {
  const Chunks chunks(shape);
  const std::int64_t count = chunks.count();
#pragma omp parallel for schedule(static) if (shape.rows * shape.cols > kSerial)
  for (std::int64_t i = 0; i < count; ++i) {
    const auto chunk = chunks[i];
    forward_chunk(x + chunk.start, y + chunk.start, chunk.size, scale[chunk.group],
                  integer_zero_point(zero_point[chunk.group], qmin, qmax), qmin, qmax);
  }
}

void fake_quantize_backward(const float* grad_y, const float* x, const float* scale, const float* zero_point,
                            float* grad_x, float* grad_scale, float* grad_zero_point, const GroupedMatrix& shape,
                            float qmin, float qmax) {
  const Chunks chunks(shape);
  const std::int64_t count = chunks.count();
  std::vector<Sums> partial(static_cast<std::size_t>(count));
#pragma omp parallel for schedule(static) if (shape.rows * shape.cols > kSerial)
  for (std::int64_t i = 0; i < count; ++i) {
    const auto chunk = chunks[i];
    partial[static_cast<std::size_t>(i)] =
        backward_chunk(grad_y + chunk.start, x + chunk.start, grad_x + chunk.start, chunk.size, scale[chunk.group],
                       integer_zero_point(zero_point[chunk.group], qmin, qmax), qmin, qmax);
  }
  for (std::int64_t group = 0; group < shape.rows * shape.groups(); ++group) {
    double scale_sum = 0.0;
    double zero_point_sum = 0.0;
    for (std::int64_t i = group * chunks.per_group(); i < (group + 1) * chunks.per_group(); ++i) {
      scale_sum += partial[static_cast<std::size_t>(i)].scale;
      zero_point_sum += partial[static_cast<std::size_t>(i)].zero_point;
    }
    grad_scale[group] = static_cast<float>(scale_sum);
    grad_zero_point[group] = static_cast<float>(zero_point_sum);
  }
}

}  // namespace eqnet
