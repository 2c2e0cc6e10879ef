// Products with few tokens and with many: two kernels, which are compiled for each type of element by itself.
#pragma once

#include "gemm.h"
#include "gemv.h"

namespace eqnet::cuda {

extern template void gemv(const Product<half>&, int bits, const Device&, Stream);
extern template void gemv(const Product<__nv_bfloat16>&, int bits, const Device&, Stream);
extern template void gemm(const Product<half>&, int bits, const Device&, Stream);
extern template void gemm(const Product<__nv_bfloat16>&, int bits, const Device&, Stream);

constexpr std::int64_t kFewTokens = 8;  // those of one operand of a tensor core

inline Needs product_needs(const TileShape& shape, std::int64_t tokens, const Device& device) {
  return tokens <= kFewTokens ? gemv_needs(shape, tokens, device) : gemm_needs(shape, tokens, device);
}

template <typename T>
void multiply(const Product<T>& product, int bits, const Device& device, Stream stream) {
  (product.tokens <= kFewTokens ? gemv<T> : gemm<T>)(product, bits, device, stream);
}

}  // namespace eqnet::cuda
