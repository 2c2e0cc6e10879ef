// The AVX2 kernels, which are spread over several files.
#pragma once

#include "kernels.h"

namespace eqnet::conv {

void dense_avx2(const DenseTile& tile, int pixels, int panels);
void dense_grouped_avx2(const DenseTile& tile, int pixels, int panels);
void depthwise_avx2(const DepthwiseTile& tile);

}  // namespace eqnet::conv
