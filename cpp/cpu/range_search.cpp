#include "eqnet/range_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "multiversion.h"

namespace eqnet {
namespace {

constexpr float kFractionStep = 0.01f;  // down to kLastStep, as in EQ-Net
constexpr float kLastStep = 0.205f;
constexpr float kFractionRatio = 0.9f;  // below, where only rare outliers make a range worth trying
constexpr float kSmallestFraction = 0.005f;
// A range that loses this many times the least has clipped more than a smaller one can win back.
constexpr float kHopeless = 10.0f;

template <typename To, typename From>
inline To bit_cast(From value) {
  To result;
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

// a^p for a >= 0 to about 4e-5 relative, as exp2(p * log2(a)): enough to rank candidates, and vectorizable where
// std::pow is not. The polynomials are Chebyshev fits on [1, 2) and [0, 1).
inline float fast_pow(float a, float p) {
  const auto bits = bit_cast<std::int32_t>(a);
  const auto exponent = static_cast<float>((bits >> 23) - 127);
  const auto m = bit_cast<float>((bits & 0x007fffff) | 0x3f800000);
  const float log2 =
      exponent - 2.79415368f +
      m * (5.06975632f + m * (-3.52021884f + m * (1.61017755f + m * (-0.40947559f + m * 0.04392863f))));
  const float y = std::max(p * log2, -126.0f);
  const float whole = std::floor(y);
  const float f = y - whole;
  const float mantissa =
      0.9999999f + f * (0.69315462f + f * (0.24014077f + f * (0.05586328f + f * (0.00894621f + f * 0.00189511f))));
  return bit_cast<float>(static_cast<std::int32_t>(whole + 127.0f) << 23) * mantissa;
}

// Errors are taken in multiples of 1 / `unit`, so that their powers neither underflow nor overflow.
EQNET_MULTIVERSION
float error_of(const float* __restrict x, const float* __restrict count, std::int64_t n, float scale, float zero,
               float qmin, float qmax, float p, float unit) {
  const float inverse = 1.0f / scale;
  float sum = 0.0f;
  if (count == nullptr) {
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < n; ++i) {
      const float code = std::min(std::max(std::rint(x[i] * inverse) + zero, qmin), qmax);
      sum += fast_pow(std::fabs(x[i] - (code - zero) * scale) * unit, p);
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < n; ++i) {
      const float code = std::min(std::max(std::rint(x[i] * inverse) + zero, qmin), qmax);
      sum += count[i] * fast_pow(std::fabs(x[i] - (code - zero) * scale) * unit, p);
    }
  }
  return sum;
}

struct Range {
  float scale;
  float zero_point;
};

Range best_range(const float* x, const float* count, std::int64_t n, float qmin, float qmax, float p) {
  const bool symmetric = qmin < 0.0f;
  float low = 0.0f;  // the range includes 0, so that the zero point is a code
  float high = 0.0f;
  for (std::int64_t i = 0; i < n; ++i) {
    if (count != nullptr && count[i] == 0.0f) continue;
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  const double width = symmetric ? std::max(high, -low) : static_cast<double>(high) - low;
  const auto full = static_cast<float>(width / qmax);
  if (!(full > std::numeric_limits<float>::min())) return {1.0f, 0.0f};

  Range best{full, symmetric ? 0.0f : std::rint(-low / full)};
  float least = std::numeric_limits<float>::infinity();
  float fraction = 1.0f;
  for (int i = 1; fraction > kSmallestFraction; ++i) {
    const float scale = full * fraction;
    fraction = fraction > kLastStep ? 1.0f - kFractionStep * static_cast<float>(i) : fraction * kFractionRatio;
    const float near = best.zero_point;
    std::array<float, 5> zeros{near, near - 1.0f, near + 1.0f, std::rint(-low / scale),
                               qmax - std::rint(high / scale)};
    std::size_t candidates = 1;
    if (!symmetric) {
      for (float& zero : zeros) zero = std::min(std::max(zero, qmin), qmax);
      std::sort(zeros.begin(), zeros.end());
      candidates = static_cast<std::size_t>(std::unique(zeros.begin(), zeros.end()) - zeros.begin());
    }
    float least_here = std::numeric_limits<float>::infinity();
    for (std::size_t j = 0; j < candidates; ++j) {
      const float error = error_of(x, count, n, scale, zeros[j], qmin, qmax, p, 1.0f / full);
      least_here = std::min(least_here, error);
      if (error < least) {
        least = error;
        best = {scale, zeros[j]};
      }
    }
    if (least_here > kHopeless * least) break;
  }
  return best;
}

}  // namespace

void range_search(const float* x, const float* count, float* scale, float* zero_point, const GroupedMatrix& shape,
                  float qmin, float qmax, float p) {
  const std::int64_t groups = shape.groups();
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < shape.rows * groups; ++i) {
    const std::int64_t first = (i % groups) * shape.group_size;
    const std::int64_t start = (i / groups) * shape.cols + first;
    const std::int64_t size = std::min(shape.group_size, shape.cols - first);
    const Range range =
        best_range(x + start, count == nullptr ? nullptr : count + start, size, qmin, qmax, p);
    scale[i] = range.scale;
    zero_point[i] = range.zero_point;
  }
}

}  // namespace eqnet
