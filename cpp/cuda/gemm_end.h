// How sums of a unit become its part of y: those of warps along columns are added up in shared memory, those of blocks
// in global memory.
#pragma once

#include "gemm_work.h"

namespace eqnet::cuda {

// A warp's place in its block, and what of its sums it finishes: those of some m, as many for each warp along columns.
struct GemmPlace {
  int warp, lane;
  int row, col, tokens;  // of the warps along rows, columns and tokens
  int each_log;          // of how many m it finishes

  __device__ __forceinline__ explicit GemmPlace(const Arrangement& along)
      : warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32),
        row(warp & (along.row_warps() - 1)),
        col(warp >> along.row_log & (along.col_warps() - 1)),
        tokens(warp >> (along.row_log + along.col_log)),
        each_log(2 - along.col_log) {}

  // Whether the warp beside it that has number `of` along columns finishes m.
  __device__ __forceinline__ bool is_of(int m, int of) const { return m >> each_log == of; }
  __device__ __forceinline__ bool finishes(int m) const { return is_of(m, col); }
  // The place of m among those that a warp finishes.
  __device__ __forceinline__ int turn_of(int m) const { return m & ((1 << each_log) - 1); }
};

__device__ __forceinline__ float4 four(const float (&sums)[4]) {
  return make_float4(sums[0], sums[1], sums[2], sums[3]);
}
__device__ __forceinline__ void add(float (&sums)[4], const float4& others) {
  sums[0] += others.x;
  sums[1] += others.y;
  sums[2] += others.z;
  sums[3] += others.w;
}

// Gives each of the warps along columns the whole sums of its m. room: shared memory of the block.
template <int kWide>
__device__ __forceinline__ void add_columns(float (&sums)[4][kWide][4], const GemmPlan& plan, const GemmPlace& place,
                                            float4* room) {
  const int col_warps = plan.arrangement.col_warps(), row_warps = plan.arrangement.row_warps();
  const int of_warp = (kWide * 32) << place.each_log;
  ROLLED
  for (int turn = 1; turn < col_warps; ++turn) {
    const int to = (place.col + turn) & (col_warps - 1), from = (place.col - turn) & (col_warps - 1);
    UNROLL
    for (int m = 0; m < 4; ++m) {
      if (!place.is_of(m, to)) continue;
      UNROLL
      for (int n = 0; n < kWide; ++n) {
        store(room + place.warp * of_warp + (place.turn_of(m) * kWide + n) * 32 + place.lane, four(sums[m][n]));
      }
    }
    __syncthreads();
    const float4* theirs = room + (place.warp + (from - place.col) * row_warps) * of_warp + place.lane;
    UNROLL
    for (int m = 0; m < 4; ++m) {
      if (!place.finishes(m)) continue;
      UNROLL
      for (int n = 0; n < kWide; ++n) add(sums[m][n], load(theirs + (place.turn_of(m) * kWide + n) * 32));
    }
    __syncthreads();
  }
}

// Adds up the sums of all blocks that have a part of the columns of this unit. Whether this block was the last one, and
// has all of them then; the others have left theirs in memory. told: shared memory.
template <typename T, int kWide>
__device__ __forceinline__ bool add_blocks(float (&sums)[4][kWide][4], const Product<T>& product, const GemmPlan& plan,
                                           const GemmPlace& place, int unit, int* told) {
  const int block = static_cast<int>(blockIdx.x), begin = unit * plan.stages;
  const int first = stripe_of(plan, begin), last = stripe_of(plan, begin + plan.stages - 1);
  const unsigned others = static_cast<unsigned>(last - first);
  if (others == 0) return true;
  // Of a block the sums of the unit that it begins with, and those of the one that it ends with.
  const auto sums_of = [&](int of_block) {
    const int which = stripe_begin(plan, of_block) >= begin ? 0 : 1;
    const long long warps = blockDim.x / 32;
    return reinterpret_cast<float4*>(product.memory) +
           ((2 * of_block + which) * warps + place.warp) * ((kWide * 32) << place.each_log) + place.lane;
  };

  // If all others have been there already, its own sums need not leave the registers.
  unsigned* counter = product.counters + unit;
  if (threadIdx.x == 0) {
    const bool is_last = atomicAdd(counter, 0u) == others;
    if (is_last) atomicExch(counter, 0u);
    __threadfence();
    store(told, is_last);
  }
  __syncthreads();
  if (load(told) == 0) {
    float4* mine = sums_of(block);
    UNROLL
    for (int m = 0; m < 4; ++m) {
      if (!place.finishes(m)) continue;
      UNROLL
      for (int n = 0; n < kWide; ++n) store(mine + (place.turn_of(m) * kWide + n) * 32, four(sums[m][n]));
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      store(told, atomicInc(counter, others) == others);
      __threadfence();
    }
    __syncthreads();
    if (load(told) == 0) return false;
  }

  ROLLED
  for (int m = 0; m < 4; ++m) {
    float before[kWide][4] = {};
    if (place.finishes(m)) {
      const int at = place.turn_of(m) * kWide * 32;
      ROLLED
      for (int other = first; other <= last; ++other) {
        if (other == block) {
          UNROLL
          for (int n = 0; n < kWide; ++n) add(before[n], four(sums[0][n]));
          continue;
        }
        const float4* theirs = sums_of(other) + at;
        UNROLL
        for (int n = 0; n < kWide; ++n) add(before[n], load(theirs + n * 32));
      }
    }
    // Each m takes the place of the one before it, so that registers have the same names in each turn.
    UNROLL
    for (int n = 0; n < kWide; ++n) {
      UNROLL
      for (int i = 0; i < 4; ++i) {
        UNROLL
        for (int k = 0; k < 3; ++k) sums[k][n][i] = sums[k + 1][n][i];
        sums[3][n][i] = before[n][i];
      }
    }
  }
  return true;
}

// Stores four channels of y, as one access where y is aligned for it.
template <typename T>
__device__ __forceinline__ void store_four(const Product<T>& product, int token, int row, const float4& sums) {
  const int rows = product.weight.rows;
  T* to = product.y + static_cast<long long>(token) * rows + row;
  if (rows % 4 == 0) {
    if (row >= rows) return;
    store(reinterpret_cast<uint2*>(to), make_uint2(reinterpret<unsigned>(from_floats<T>(sums.x, sums.y)),
                                                   reinterpret<unsigned>(from_floats<T>(sums.z, sums.w))));
  } else {
    const float values[4] = {sums.x, sums.y, sums.z, sums.w};
    UNROLL
    for (int i = 0; i < 4; ++i) {
      if (row + i < rows) store(to + i, from_float<T>(values[i]));
    }
  }
}

// Finishes and stores the sums of a warp: scales, if each channel has one, bias and activation. They lie along tokens
// and y along channels, so that they go through shared memory, 8 tokens at a time. room: of the warp, kRoomFloats.
template <typename T, int kWide>
__device__ __forceinline__ void store_sums(float (&sums)[4][kWide][4], const Product<T>& product, const GemmPlan& plan,
                                           const GemmPlace& place, int row_tile, int first_token, float* room) {
  if (row_tile >= product.weight.row_tiles) return;
  const int g = place.lane / 4, t = place.lane % 4, first_m = place.col << place.each_log;
  const int first_row = row_tile * static_cast<int>(kTile);
  Scales scales, biases;
  UNROLL
  for (int i = 0; i < 8; ++i) {
    const int row = first_row + 8 * i + g;
    scales.values[i] = 1.0f;
    biases.values[i] = product.bias != nullptr && row < product.weight.rows ? load(product.bias + row) : 0.0f;
  }
  if (!plan.grouped) scales = load_scales(product.weight, row_tile, 0, place.lane);

  // Rows of 4 floats more than there are channels: neither writes along tokens nor reads along channels meet a bank
  // twice. Four lanes that read 16 channels share the banks with those of the next token, but not of the fourth.
  const int pitch = (16 << place.each_log) + 4, lanes = 4 << place.each_log, together = 8 >> place.each_log;
  int turn = place.lane >> (2 + place.each_log);
  if (place.each_log == 0) turn = turn % 2 * 4 + turn / 2;
  const int channels = (place.lane & (lanes - 1)) * 4;
  ROLLED
  for (int n = 0; n < kWide; ++n) {
    UNROLL
    for (int m = 0; m < 4; ++m) {
      if (place.finishes(m)) {
        float* to = room + 2 * t * pitch + (m - first_m) * 16 + g;
        UNROLL
        for (int i = 0; i < 4; ++i) {
          store(to + i % 2 * pitch + i / 2 * 8,
                sums[m][0][i] * scales.values[2 * m + i / 2] + biases.values[2 * m + i / 2]);
        }
      }
      // The next ones take their place, so that registers have the same names in each turn.
      UNROLL
      for (int next = 1; next < kWide; ++next) {
        UNROLL
        for (int i = 0; i < 4; ++i) sums[m][next - 1][i] = sums[m][next][i];
      }
    }
    __syncwarp();
    if (product.activation != EQNET_NO_ACTIVATION) {
      ROLLED
      for (int at = place.lane; at < 8 * pitch; at += 32) {
        if (at % pitch < pitch - 4) store(room + at, activated(load(room + at), product.activation));
      }
      __syncwarp();
    }
    ROLLED
    for (int token = turn; token < 8; token += together) {
      const float4 values = load(reinterpret_cast<const float4*>(room + token * pitch + channels));
      const int y_token = first_token + 8 * n + token;
      if (y_token < product.tokens) store_four(product, y_token, first_row + 16 * first_m + channels, values);
    }
    __syncwarp();
  }
}

}  // namespace eqnet::cuda
