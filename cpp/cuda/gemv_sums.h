// What one warp of the product with few tokens adds up: 64 output channels by 8 tokens, in the accumulators of tensor
// cores. Sums of a group of columns are scaled when the group ends, in float32.
#pragma once

#include "fragments.h"
#include "tiles.h"

namespace eqnet::cuda {

// Of bfloat16, whose codes come without their zero points. Those of the channels 16·m + 8 + g may be larger by
// kHighPlace bits: neighbours in a word then need one shift together.
template <typename T, int kBits>
class GemvSums {
 public:
  __device__ __forceinline__ void begin_group(uint2 zeros) {
    const uint2 high{zeros.x << kHighPlace, zeros.y << kHighPlace};  // bytes still, as codes have 3 bits at most
    UNROLL
    for (int i = 0; i < 8; ++i) {
      const uint2 of_half = i % 2 == 0 ? zeros : high;
      offsets_[i] = offset_of<T, kBits>(i < 4 ? of_half.x : of_half.y, i % 4);
    }
  }
  // Adds 16 columns. b: x, as operand b.
  __device__ __forceinline__ void add(const Lines<kBits>& lines, int step, const unsigned (&b)[2]) {
    UNROLL
    for (int m = 0; m < 4; ++m) {
      unsigned a[4];
      UNROLL
      for (int i = 0; i < 4; ++i) {
        a[i] = unpacked<T, kBits>(lines, 16 * step + 4 * m + i, offsets_[2 * m + i % 2], i % 2 * kHighPlace);
      }
      mma<T>(group_[m], a, b);
    }
  }
  __device__ __forceinline__ void end_group(const Scales& scales, uint2 /*zeros*/) {
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
    return i < 2 ? total_[m][i] : total_[m][i] * (1.0f / (1 << kHighPlace));
  }

 private:
  static constexpr int kHighPlace = kBits <= 3 ? 2 : 0;

  unsigned offsets_[8];
  float group_[4][4] = {};
  float total_[4][4] = {};
};

// Of halves, whose codes come raw: zero points are taken away from sums, times the sum of x, which is one more product,
// with a matrix of ones. That is 64 operations of whole warps less for each tile than to take them from each code.
template <int kBits>
class GemvSums<half, kBits> {
 public:
  __device__ __forceinline__ void begin_group(uint2 /*zeros*/) {}
  __device__ __forceinline__ void add(const Lines<kBits>& lines, int step, const unsigned (&b)[2]) {
    constexpr unsigned kOnes = 0x3c003c00u;
    const unsigned ones[4] = {kOnes, kOnes, kOnes, kOnes};
    mma<half>(of_x_, ones, b);
    UNROLL
    for (int m = 0; m < 4; ++m) {
      unsigned a[4];
      UNROLL
      for (int i = 0; i < 4; ++i) a[i] = raw<kBits>(lines, 16 * step + 4 * m + i);
      mma<half>(group_[m], a, b);
    }
  }
  __device__ __forceinline__ void end_group(const Scales& scales, uint2 zeros) {
    UNROLL
    for (int m = 0; m < 4; ++m) {
      UNROLL
      for (int h = 0; h < 2; ++h) {
        // The zero point as the last bits of a float whose last place is that of the codes: 2^-24 for 2^-1.
        const unsigned magic = 0x3f000000u + (raw_place<kBits>(m, h) << 23);
        const unsigned bits = __byte_perm(m < 2 ? zeros.x : zeros.y, magic, 0x7650u | (m % 2 * 2 + h));
        const float zero = __uint_as_float(bits) - __uint_as_float(magic);
        UNROLL
        for (int i = 2 * h; i < 2 * h + 2; ++i) {
          total_[m][i] += scales.values[2 * m + h] * (group_[m][i] - zero * of_x_[i]);
          group_[m][i] = 0.0f;
        }
      }
    }
    UNROLL
    for (int i = 0; i < 4; ++i) of_x_[i] = 0.0f;
  }
  __device__ __forceinline__ float total(int m, int i) const {
    return total_[m][i] * (1.0f / kRawUnit / static_cast<float>(1 << raw_place<kBits>(m, i / 2)));
  }

 private:
  float of_x_[4] = {};
  float group_[4][4] = {};
  float total_[4][4] = {};
};

}  // namespace eqnet::cuda
