// What kernels are given of a weight in tiles, whose layout eqnet/tiles.h draws.
#pragma once

#include "eqnet/cuda.h"
#include "eqnet/tiles.h"
#include "elements.h"

namespace eqnet::cuda {

inline TileShape shape_of(const eqnet_cuda_weight& weight) {
  return {weight.rows, weight.cols, weight.group_size, weight.bits};
}

struct Tiles {
  const uint4* codes;
  const void* scales;
  const unsigned char* zeros;  // null: 2^(bits - 1) everywhere
  int scale_type;
  int rows;         // output channels
  int row_tiles;
  int col_tiles;
  int groups;       // that have scales
  int group_steps;  // of a group

  static Tiles of(const eqnet_cuda_weight& weight) {
    const TileShape shape = shape_of(weight);
    return {static_cast<const uint4*>(weight.codes),
            weight.scales,
            static_cast<const unsigned char*>(weight.zeros),
            weight.scale_type,
            static_cast<int>(shape.rows),
            static_cast<int>(shape.row_tiles()),
            static_cast<int>(shape.col_tiles()),
            static_cast<int>(shape.groups()),
            static_cast<int>(shape.group_steps())};
  }
};

// What one lane needs of the channels of a tile in a group: of each m, channels 16·m + g and 16·m + g + 8.
struct Scales {
  float values[8];  // 2·m + h
};

// at: of the first one, in global or shared memory.
__device__ __forceinline__ Scales scales_at(const void* all, int type, long long at) {
  Scales scales;
  if (type == EQNET_FLOAT32) {
    const float4* from = reinterpret_cast<const float4*>(static_cast<const float*>(all) + at);
    const float4 low = load(from), high = load(from + 1);
    const float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    UNROLL
    for (int i = 0; i < 8; ++i) scales.values[i] = values[i];
    return scales;
  }
  const uint4 bits = load(reinterpret_cast<const uint4*>(static_cast<const unsigned short*>(all) + at));
  const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const float2 two = type == EQNET_FLOAT16 ? to_floats(reinterpret<half2>(words[i]))
                                             : to_floats(reinterpret<__nv_bfloat162>(words[i]));
    scales.values[2 * i] = two.x;
    scales.values[2 * i + 1] = two.y;
  }
  return scales;
}

__device__ __forceinline__ Scales load_scales(const Tiles& weight, int row_tile, int group, int lane) {
  const long long at = (static_cast<long long>(row_tile) * weight.groups + group) * kTile + lane / 4 * 8;
  return scales_at(weight.scales, weight.scale_type, at);
}

// The zero points of the same channels, a byte each, in the same order.
template <int kBits>
__device__ __forceinline__ uint2 load_zeros(const Tiles& weight, int row_tile, int group, int lane) {
  if (weight.zeros == nullptr) {
    constexpr unsigned kMiddle = (1u << (kBits - 1)) * 0x01010101u;
    return make_uint2(kMiddle, kMiddle);
  }
  const long long at = (static_cast<long long>(row_tile) * weight.groups + group) * kTile + lane / 4 * 8;
  return load(reinterpret_cast<const uint2*>(weight.zeros + at));
}

}  // namespace eqnet::cuda
