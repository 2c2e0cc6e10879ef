// y = activation(x W^T + bias) for up to 8 tokens, of a weight in tiles. What takes the time is to read the weight.
//
// A warp walks along a part of a row of tiles. It has the lines of the next kTilesAhead tiles on their way in
// registers, so that a multiprocessor waits for as many bytes as memory needs to be asked for at a time. Tokens are the
// 8 columns of operand b of mma, which costs the same for all of them: those that are missing are rows of zeros.
//
// x of the columns that the warps of a block are at comes to shared memory once for all of them. Their sums meet there
// in the end, and those of blocks that share their outputs in memory: the last block to come adds all of them up, in
// the same order every time.
#pragma once

#include "dispatch.h"
#include "gemv_groups.h"
#include "gemv_plan.h"
#include "gemv_sums.h"
#include "product.h"

namespace eqnet::cuda {

constexpr int kGemvThreads = 32 * kGemvWarps;
constexpr int kGemvTokens = 8;
constexpr int kZeroBytes = 128;              // in shared memory: rows of x that are missing
constexpr int kSumStride = 64 + 4;           // of sums of channels: 8 rows by 4 pairs of tokens meet all banks
constexpr int kPieceBytes = 16;              // of x, that a lane copies
constexpr int kTileXBytes = 64 * 2;          // of x of one token
constexpr int kTilePieces = kTileXBytes / kPieceBytes;

// Bytes from one token of x in shared memory to the next one: 16 more than whole rows of banks, so that the same
// columns of 8 tokens meet all banks.
__host__ __device__ constexpr int x_stride(int parts, int chunk) { return parts * chunk * kTileXBytes + kPieceBytes; }

// The tiles that one part of the columns of a block has.
struct GemvPart {
  int begin, end;
};
__device__ __forceinline__ GemvPart gemv_part(int col_tiles, const GemvPlan& plan, int split, int part) {
  const auto first = [&](int of) { return static_cast<int>(static_cast<long long>(of) * col_tiles / plan.splits); };
  const int begin = first(split), count = first(split + 1) - begin, parts = plan.parts();
  return {begin + part * count / parts, begin + (part + 1) * count / parts};
}

// Copies x of chunk number `chunk` of all parts to shared memory: [tokens][parts][tiles of a chunk].
template <typename T>
__device__ __forceinline__ void stage_x(const Product<T>& product, const GemvPlan& plan, int chunk, unsigned char* to) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int parts = plan.parts(), stride = x_stride(parts, plan.chunk);
  for (int i = warp; i < product.tokens * parts; i += kGemvWarps) {
    const int token = i / parts, number = i % parts;
    const GemvPart part = gemv_part(product.weight.col_tiles, plan, static_cast<int>(blockIdx.y), number);
    const int begin = part.begin + chunk * plan.chunk, tiles = min(plan.chunk, part.end - begin);
    const T* from = product.x + (static_cast<long long>(token) * product.weight.col_tiles + begin) * kTile;
    unsigned char* row = to + token * stride + number * plan.chunk * kTileXBytes;
    for (int piece = lane; piece < tiles * kTilePieces; piece += 32) {
      cp_async<kPieceBytes>(row + piece * kPieceBytes, from + piece * (kPieceBytes / 2));
    }
    __syncwarp();
  }
}

// Adds what the parts of each row of tiles have, in shared memory, and what other blocks have. sums: [rows][parts]
// [tokens][kSumStride].
template <typename T>
__device__ __forceinline__ void finish(const Product<T>& product, const GemvPlan& plan, const float* sums) {
  const int parts = plan.parts(), tokens = product.tokens;
  const int block_rows = plan.rows * static_cast<int>(kTile);
  const int first_row = static_cast<int>(blockIdx.x) * block_rows;
  const int padded_rows = product.weight.row_tiles * static_cast<int>(kTile);
  const auto memory_of = [&](int split, int token) {
    return product.memory + (static_cast<long long>(split) * tokens + token) * padded_rows + first_row;
  };
  const auto put = [&](int token, int row, float sum) {
    if (first_row + row >= product.weight.rows) return;
    store(product.y + static_cast<long long>(token) * product.weight.rows + first_row + row,
          finished(sum, product, first_row + row));
  };

  for (int i = static_cast<int>(threadIdx.x); i < tokens * block_rows; i += kGemvThreads) {
    const int row = i % block_rows, token = i / block_rows;
    if (first_row + row >= padded_rows) continue;
    const float* from = sums + (row / 64 * parts * tokens + token) * kSumStride + row % 64;
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += load(from + part * tokens * kSumStride);
    if (plan.splits == 1) {
      put(token, row, sum);
    } else {
      store(memory_of(static_cast<int>(blockIdx.y), token) + row, sum);
    }
  }
  if (plan.splits == 1) return;

  __threadfence();
  __syncthreads();
  bool last = false;
  if (threadIdx.x == 0) {
    const auto most = static_cast<unsigned>(plan.splits - 1);
    last = atomicInc(product.counters + blockIdx.x, most) == most;
  }
  if (!__syncthreads_or(last)) return;
  __threadfence();
  for (int i = static_cast<int>(threadIdx.x); i < tokens * block_rows; i += kGemvThreads) {
    const int row = i % block_rows, token = i / block_rows;
    if (first_row + row >= padded_rows) continue;
    float sum = 0.0f;
    for (int split = 0; split < plan.splits; ++split) sum += load(memory_of(split, token) + row);
    put(token, row, sum);
  }
}

// Blocks: along x of rows of tiles, along y of splits.
template <typename T, int kBits>
__global__ void __launch_bounds__(kGemvThreads, gemv_blocks_at_once(kBits))
    gemv_kernel(Product<T> product, GemvPlan plan) {
  DYNAMIC_SHARED(unsigned char, memory);
  const Tiles& weight = product.weight;
  // By a shuffle the compiler knows that it is the same in all lanes, and keeps what depends on it once for a warp.
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int parts = plan.parts(), number = warp / plan.rows, tile_row = warp % plan.rows;
  const int row_tile = static_cast<int>(blockIdx.x) * plan.rows + tile_row;
  GemvPart part = gemv_part(weight.col_tiles, plan, static_cast<int>(blockIdx.y), number);
  const GemvPart longest = gemv_part(weight.col_tiles, plan, static_cast<int>(blockIdx.y), parts - 1);
  const int chunks = (longest.end - longest.begin + plan.chunk - 1) / plan.chunk;
  if (row_tile >= weight.row_tiles) part.end = part.begin;

  const int of_ring = ring_bytes(weight.scale_type, weight.group_steps);
  unsigned char* x = memory + kZeroBytes + kGemvWarps * of_ring;
  GroupRing<kBits> ring(weight, row_tile, part.begin * static_cast<int>(kTileSteps),
                        memory + kZeroBytes + warp * of_ring, lane);
  const long long first_tile = static_cast<long long>(row_tile) * weight.col_tiles + part.begin;
  const uint4* from = weight.codes + first_tile * (kBits * 32);
  Lines<kBits> lines[kTilesAhead];
  const auto load_codes = [&](int stage) {
    load_lines(lines[stage], from, lane);
    from += kBits * 32;
  };
  const auto load_groups = [&](bool exists) {
    if (exists) {
      ring.load_tile();
    } else {
      cp_async_commit();  // what is waited for is counted
    }
  };
  UNROLL
  for (int stage = 0; stage < kTilesAhead; ++stage) {
    if (part.begin + stage < part.end) load_codes(stage);
  }
  UNROLL
  for (int stage = 0; stage < kTilesAhead; ++stage) load_groups(part.begin + stage < part.end);
  if (threadIdx.x < kZeroBytes / kPieceBytes) {
    store(reinterpret_cast<uint4*>(memory) + threadIdx.x, make_uint4(0, 0, 0, 0));
  }

  // Rows of ldmatrix: lane 8·j + r gives columns 8·j on, of 32, of token r. The banks of a missing one are those that
  // it would have.
  const int token = lane % 8, eight = lane / 8;
  const bool exists = token < product.tokens;
  const int zero = (token + eight) % 8 * kPieceBytes, zero_next = (token + eight + 4) % 8 * kPieceBytes;
  const unsigned char* first_x =
      exists ? x + token * x_stride(parts, plan.chunk) + number * plan.chunk * kTileXBytes + eight * kPieceBytes
             : memory + zero;
  const int next_half = exists ? kTileXBytes / 2 : zero_next - zero, next_tile = exists ? kTileXBytes : 0;

  GemvSums<T, kBits> sums;
  const auto add_tile = [&](const Lines<kBits>& codes, const unsigned char* at) {
    UNROLL
    for (int half_tile = 0; half_tile < 2; ++half_tile) {
      unsigned b[4];
      ldmatrix(b, at + half_tile * next_half);
      UNROLL
      for (int i = 0; i < 2; ++i) {
        if (ring.begin_step()) sums.begin_group(ring.zeros());
        const unsigned of_step[2] = {b[2 * i], b[2 * i + 1]};
        sums.add(codes, 2 * half_tile + i, of_step);
        if (ring.end_step()) {
          sums.end_group(ring.scales());
          ring.leave_group();
        }
      }
    }
  };

  int tile = part.begin;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    if (chunk > 0) __syncthreads();  // until nobody reads the last one
    stage_x(product, plan, chunk, x);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    const int end = min(tile + plan.chunk, part.end);
    const unsigned char* at = first_x;
    for (; tile < end; tile += kTilesAhead) {
      UNROLL
      for (int stage = 0; stage < kTilesAhead; ++stage) {
        if (tile + stage >= end) break;
        ring.wait_for_tile();
        add_tile(lines[stage], at);
        at += next_tile;
        const bool another = tile + stage + kTilesAhead < part.end;
        if (another) load_codes(stage);
        load_groups(another);
      }
    }
  }
  if (ring.is_open()) sums.end_group(ring.scales());

  __syncthreads();  // until nobody reads x, which makes room
  auto* shared_sums = reinterpret_cast<float*>(x);
  float* to = shared_sums + (tile_row * parts + number) * product.tokens * kSumStride + lane / 4;
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const int of_token = lane % 4 * 2 + i % 2;
    if (of_token < product.tokens) {
      UNROLL
      for (int m = 0; m < 4; ++m) store(to + of_token * kSumStride + 16 * m + i / 2 * 8, sums.total(m, i));
    }
    __syncwarp();
  }
  __syncthreads();
  finish(product, plan, shared_sums);
}

inline Needs gemv_needs(const TileShape& shape, std::int64_t tokens, const Device& device) {
  const GemvPlan plan = gemv_plan(shape, tokens, device);
  if (plan.splits == 1) return {0, 0};
  return {plan.splits * tokens * shape.row_tiles() * kTile * 4, (shape.row_tiles() + plan.rows - 1) / plan.rows};
}

// The product as it is planned. The chunk of the plan is what shared memory has room for.
template <typename T>
void gemv_as(GemvPlan plan, const Product<T>& product, int bits, const Device& device, Stream stream) {
  const Tiles& weight = product.weight;
  // So much x at a time that two blocks have room on a multiprocessor.
  const int fixed_bytes = kZeroBytes + kGemvWarps * ring_bytes(weight.scale_type, weight.group_steps);
  const int room = std::min({device.processor_shared_bytes / 2 - 1024, device.shared_bytes, 48 * 1024}) - fixed_bytes;
  const int tile_bytes = product.tokens * plan.parts() * kTileXBytes;
  const int longest = ((weight.col_tiles + plan.splits - 1) / plan.splits + plan.parts() - 1) / plan.parts();
  // Whole pairs of tiles, or all.
  plan.chunk = std::min(std::max((room - product.tokens * kPieceBytes) / tile_bytes / 2 * 2, 2), longest);
  const int x_bytes = product.tokens * x_stride(plan.parts(), plan.chunk);
  const int sum_bytes = kGemvWarps * product.tokens * kSumStride * 4;
  const dim3 grid(static_cast<unsigned>((weight.row_tiles + plan.rows - 1) / plan.rows),
                  static_cast<unsigned>(plan.splits));
  for_bits(bits, [&](auto width) {
    launch("gemv", gemv_kernel<T, decltype(width)::value>, grid, kGemvThreads,
           fixed_bytes + std::max(x_bytes, sum_bytes), stream, product, plan);
  });
}

template <typename T>
void gemv(const Product<T>& product, int bits, const Device& device, Stream stream) {
  if (!std::is_same_v<T, half> && device.capability < 80) {
    throw std::invalid_argument("products of bfloat16 need compute capability 8.0; this GPU has " +
                                std::to_string(device.capability / 10) + "." + std::to_string(device.capability % 10));
  }
  // The columns of the plan are those of the tiles, as for gemv_needs.
  const std::int64_t cols = product.weight.col_tiles * kTile;
  gemv_as(gemv_plan({product.weight.rows, cols, cols, bits}, product.tokens, device), product, bits, device, stream);
}

}  // namespace eqnet::cuda
