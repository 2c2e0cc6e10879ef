// One scale of any type, where it is stored by itself.
#pragma once

#include "eqnet/cuda.h"
#include "elements.h"

namespace eqnet::cuda {

__device__ __forceinline__ float load_scale(const void* scales, int type, long long at) {
  if (type == EQNET_FLOAT32) return load(static_cast<const float*>(scales) + at);
  if (type == EQNET_FLOAT16) return to_float(load(static_cast<const half*>(scales) + at));
  return to_float(load(static_cast<const __nv_bfloat16*>(scales) + at));
}

}  // namespace eqnet::cuda
