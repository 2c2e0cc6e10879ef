// The AVX-512 kernels, which are spread over several files.
#pragma once

#include "kernels.h"

namespace eqnet::conv {

void dense_avx512(const DenseTile& tile, int pixels, int panels);
void dense_grouped_avx512(const DenseTile& tile, int pixels, int panels);
void depthwise_avx512(const DepthwiseTile& tile);
void finish_avx512(const float* values, std::int64_t count, const Finish& finish, std::uint8_t* const* code, float* value);

}  // namespace eqnet::conv
