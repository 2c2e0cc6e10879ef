// half and __nv_bfloat16 by the same names, for kernels that are written once for both.
#pragma once

#include "device.h"

namespace eqnet::cuda {

template <typename T>
struct PairOf;
template <>
struct PairOf<half> {
  using Type = half2;
};
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
};

// Two of them in 4 bytes.
template <typename T>
using Pair = typename PairOf<T>::Type;

__device__ __forceinline__ float to_float(half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float2 to_floats(half2 x) { return __half22float2(x); }
__device__ __forceinline__ float2 to_floats(__nv_bfloat162 x) { return __bfloat1622float2(x); }

// Rounded to nearest, ties to even.
template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ half from_float<half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

template <typename T>
__device__ __forceinline__ Pair<T> from_floats(float x, float y);
template <>
__device__ __forceinline__ half2 from_floats<half>(float x, float y) {
  return __floats2half2_rn(x, y);
}
template <>
__device__ __forceinline__ __nv_bfloat162 from_floats<__nv_bfloat16>(float x, float y) {
  return __floats2bfloat162_rn(x, y);
}

// The same one twice.
__device__ __forceinline__ half2 repeat(half x) { return __half2half2(x); }
__device__ __forceinline__ __nv_bfloat162 repeat(__nv_bfloat16 x) { return __bfloat162bfloat162(x); }

}  // namespace eqnet::cuda
