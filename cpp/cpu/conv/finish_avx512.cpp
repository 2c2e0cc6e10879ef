#include "finish_avx512.h"

#include "kernels_avx512.h"

namespace eqnet::conv {

void finish_avx512(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code,
                   float* value) {
  const __m512 low = _mm512_set1_ps(finish.low), high = _mm512_set1_ps(finish.high);
  for (std::int64_t k = 0; k < count; k += 4 * kLanes) {
    __m512 x[4];
    const std::int64_t left = count - k;
    for (int v = 0; v < 4; ++v) {
      const std::int64_t here = left - v * kLanes;
      const __mmask16 mask = static_cast<__mmask16>(here >= kLanes ? 0xffff : here <= 0 ? 0 : (1 << here) - 1);
      x[v] = _mm512_maskz_loadu_ps(mask, values + k + v * kLanes);
      if (finish.has_value) {
        _mm512_mask_storeu_ps(value + k + v * kLanes, mask, _mm512_min_ps(_mm512_max_ps(x[v], low), high));
      }
    }
    const __mmask64 mask = left >= 64 ? ~std::uint64_t{0} : ~std::uint64_t{0} >> (64 - left);
    for (int t = 0; t < finish.targets; ++t) {
      const __m512 scale = _mm512_set1_ps(finish.coding[t].scale);
      const __m512i bytes = codes<true>(_mm512_div_ps(x[0], scale), _mm512_div_ps(x[1], scale),
                                        _mm512_div_ps(x[2], scale), _mm512_div_ps(x[3], scale), finish.coding[t]);
      _mm512_mask_storeu_epi8(code[t] + k, mask, bytes);
    }
  }
}

const Kernels kAvx512Kernels = {4, {0, 8, 8, 8, 6}, 8, 4, false, dense_avx512, dense_grouped_avx512,
                                depthwise_avx512, finish_avx512};

}  // namespace eqnet::conv
