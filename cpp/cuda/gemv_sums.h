// What one warp of the product with few tokens adds up: 64 output channels by 8 tokens, in the accumulators of tensor
// cores. Sums of a group of columns are scaled when the group ends, in float32.
#pragma once

#include "fragments.h"
#include "tiles.h"

namespace eqnet::cuda {

// By which power of two codes of the channels 16·m + 8·h + g are larger, so that neighbours in a word need one shift
// together. They stay within the numbers below Magic: 10 bits, or 7 of bfloat16.
template <typename T, int kBits>
__host__ __device__ constexpr int gemv_place(int m, int h) {
  if (!std::is_same_v<T, half>) return kBits <= 3 ? 2 * h : 0;
  if (kBits <= 3) return 4 * (m % 2) + 2 * h;
  return kBits <= 6 ? 4 * h : (kBits == 7 ? 2 * h : 0);
}

// Codes come without their zero points, so that no sum is larger than it has to be. (To take zero points from sums,
// times the sum of x, saves fewer operations than that sum takes where groups are short.)
template <typename T, int kBits>
class GemvSums {
 public:
  __device__ __forceinline__ void begin_group(uint2 zeros) {
    UNROLL
    for (int i = 0; i < 8; ++i) {
      offsets_[i] = offset_of<T, kBits>(i < 4 ? zeros.x : zeros.y, i % 4, gemv_place<T, kBits>(i / 2, i % 2));
    }
  }
  // Adds 16 columns. b: x, as operand b.
  __device__ __forceinline__ void add(const Lines<kBits>& lines, int step, const unsigned (&b)[2]) {
    UNROLL
    for (int m = 0; m < 4; ++m) {
      unsigned a[4];
      UNROLL
      for (int i = 0; i < 4; ++i) {
        const int place = gemv_place<T, kBits>(m, i % 2);
        a[i] = unpacked<T, kBits>(lines, 16 * step + 4 * m + i, offsets_[2 * m + i % 2], place);
      }
      mma<T>(group_[m], a, b);
    }
  }
  __device__ __forceinline__ void end_group(const Scales& scales) {
    UNROLL
    for (int m = 0; m < 4; ++m) {
      UNROLL
      for (int i = 0; i < 4; ++i) {
        total_[m][i] += scales.values[2 * m + i / 2] * group_[m][i];
        group_[m][i] = 0.0f;
      }
    }
  }
  // i: an accumulator of m16n8k16.
  __device__ __forceinline__ float total(int m, int i) const {
    return total_[m][i] * (1.0f / static_cast<float>(1 << gemv_place<T, kBits>(m, i / 2)));
  }

 private:
  unsigned offsets_[8];
  float group_[4][4] = {};
  float total_[4][4] = {};
};

}  // namespace eqnet::cuda
