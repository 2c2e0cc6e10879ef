// Kernels as they are written for GPUs, which the emulator's tests run and nvcc compiles.
#pragma once

#include "cuda/elements.h"

namespace kernels {

using namespace eqnet::cuda;

constexpr int kSumThreads = 256;

// Adds all of x: [count] to `sum`, which is 0 before. Blocks of kSumThreads threads, any number of them.
__global__ void __launch_bounds__(kSumThreads) add_up(const float* x, int count, float* sum) {
  SHARED(float, of_warps, kSumThreads / 32);
  float mine = 0;
  const int step = static_cast<int>(gridDim.x) * kSumThreads;
  for (int i = static_cast<int>(blockIdx.x) * kSumThreads + static_cast<int>(threadIdx.x); i < count; i += step) {
    mine += load(x + i);
  }
  UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) mine += __shfl_xor_sync(~0u, mine, lanes);
  if (threadIdx.x % 32 == 0) store(of_warps + threadIdx.x / 32, mine);
  __syncthreads();
  if (threadIdx.x >= 32) return;
  float all = threadIdx.x < kSumThreads / 32 ? load(of_warps + threadIdx.x) : 0.0f;
  UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) all += __shfl_xor_sync(~0u, all, lanes);
  if (threadIdx.x == 0) atomicAdd(sum, all);
}

// y = scale · x + shift, of `count` times 8 numbers.
template <typename T>
__global__ void __launch_bounds__(64) scale_and_shift(const T* x, T scale, float shift, T* y, int count) {
  const int i = static_cast<int>(blockIdx.x) * 64 + static_cast<int>(threadIdx.x);
  if (i >= count) return;
  uint4 bits = load_once(reinterpret_cast<const uint4*>(x) + i);
  unsigned* registers[] = {&bits.x, &bits.y, &bits.z, &bits.w};
  UNROLL
  for (int pair = 0; pair < 4; ++pair) {
    const float2 scaled = to_floats(__hmul2(reinterpret<Pair<T>>(*registers[pair]), repeat(scale)));
    *registers[pair] = reinterpret<unsigned>(from_floats<T>(scaled.x + shift, scaled.y + shift));
  }
  store(reinterpret_cast<uint4*>(y) + i, bits);
}

template __global__ void scale_and_shift(const half*, half, float, half*, int);
template __global__ void scale_and_shift(const __nv_bfloat16*, __nv_bfloat16, float, __nv_bfloat16*, int);

// Rows of tiles hold 16 numbers, in two halves of 16 bytes. Of every eight rows the last four have their halves
// exchanged, so that the same half of eight rows meets all banks. Returns where a half begins, in numbers.
__device__ __forceinline__ int swizzled(int row, int which) { return row * 16 + (which ^ (row / 4 & 1)) * 8; }

constexpr int kStages = 3;

// y: [rows, cols] = x: [rows, depth] · wᵀ, w: [cols, depth]; rows a multiple of 16, cols of 8, depth of 16. A block is
// one warp, which makes a tile of 16x8; blocks along x are of cols. The tiles of x and w come by asynchronous copies,
// kStages - 1 steps ahead.
template <typename T>
__global__ void __launch_bounds__(32) multiply(const T* x, const T* w, float* y, int cols, int depth) {
  SHARED(T, tiles, kStages * 24 * 16);
  const int lane = static_cast<int>(threadIdx.x);
  const int first_row = static_cast<int>(blockIdx.y) * 16, first_col = static_cast<int>(blockIdx.x) * 8;
  const int steps = depth / 16;

  const auto begin = [&](int step) {
    T* tile = tiles + step % kStages * 24 * 16;
    if (step < steps) {
      UNROLL
      for (int part = lane; part < 48; part += 32) {
        const int row = part / 2, half_row = part % 2;
        const T* from = row < 16 ? x + (first_row + row) * depth : w + (first_col + row - 16) * depth;
        cp_async<16>(tile + swizzled(row, half_row), from + step * 16 + half_row * 8);
      }
    }
    cp_async_commit();
  };

  float sums[4] = {};
  UNROLL
  for (int step = 0; step < kStages - 1; ++step) begin(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    begin(step + kStages - 1);
    const T* tile = tiles + step % kStages * 24 * 16;
    unsigned a[4], b[2];
    ldmatrix(a, tile + swizzled(lane % 16, lane / 16));
    ldmatrix(b, tile + swizzled(16 + lane % 8, lane / 8 % 2));
    mma<T>(sums, a, b);
  }
  float* to = y + (first_row + lane / 4) * cols + first_col + lane % 4 * 2;
  store(reinterpret_cast<float2*>(to), make_float2(sums[0], sums[1]));
  store(reinterpret_cast<float2*>(to + 8 * cols), make_float2(sums[2], sums[3]));
}

template __global__ void multiply<half>(const half*, const half*, float*, int, int);
template __global__ void multiply<__nv_bfloat16>(const __nv_bfloat16*, const __nv_bfloat16*, float*, int, int);

}  // namespace kernels
