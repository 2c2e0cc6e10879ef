#include "finish_avx2.h"

#include <algorithm>

#include "kernels_avx2.h"

namespace eqnet::conv {
namespace {

void finish(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code, float* value) {
  for (std::int64_t k = 0; k < count; k += 4 * kHalf) {
    const int left = static_cast<int>(std::min<std::int64_t>(count - k, 4 * kHalf));
    Finish floats = finish;
    floats.has_residual = false;
    __m256 x[4];
    for (int v = 0; v < 4; ++v) {
      x[v] = _mm256_maskload_ps(values + k + v * kHalf, first_dwords(left - v * kHalf));
      if (finish.has_value) finish_floats(x[v], floats, nullptr, value + k + v * kHalf, left - v * kHalf);
    }
    for (int t = 0; t < finish.targets; ++t) {
      const __m256 scale = _mm256_set1_ps(finish.coding[t].scale);
      const __m256i bytes = codes<true>(_mm256_div_ps(x[0], scale), _mm256_div_ps(x[1], scale),
                                        _mm256_div_ps(x[2], scale), _mm256_div_ps(x[3], scale), finish.coding[t]);
      store_lane(_mm256_castsi256_si128(bytes), code[t] + k, left);
      if (left > kLanes) store_lane(_mm256_extracti128_si256(bytes, 1), code[t] + k + kLanes, left - kLanes);
    }
  }
}

}  // namespace

const Kernels kAvx2Kernels = {1, {0, 4}, 4, 2, false, dense_avx2, dense_grouped_avx2,
                              depthwise_avx2, finish};

}  // namespace eqnet::conv
