#include "dequantize.h"

namespace eqnet::cuda {

#define EQNET_DEQUANTIZE(type)                                                                                     \
  template void dequantize(const eqnet_cuda_weight&, type*, Stream);                                               \
  template void dequantize_glm(const void*, const void*, int, std::int64_t, std::int64_t, int, type*, Stream)
EQNET_DEQUANTIZE(half);
EQNET_DEQUANTIZE(__nv_bfloat16);
EQNET_DEQUANTIZE(float);

}  // namespace eqnet::cuda
