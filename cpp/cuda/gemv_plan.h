// How the product with few tokens is divided among blocks and warps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "eqnet/tiles.h"
#include "device.h"
#include "launch.h"

namespace eqnet::cuda {

constexpr int kGemvWarps = 8;  // of a block

// A block has kGemvWarps warps: `rows` rows of tiles, and so many parts of their columns that all warps have one. The
// columns are divided among `splits` blocks before that.
struct GemvPlan {
  int rows;    // of tiles, of a block: 1, 2, 4 or 8
  int splits;  // blocks that add to the same outputs
  int chunk;   // tiles of a warp whose x is in shared memory at a time

  __host__ __device__ int parts() const { return kGemvWarps / rows; }
};

// Blocks that a multiprocessor has at a time, by their registers.
__host__ __device__ constexpr int gemv_blocks_at_once(int bits) { return bits <= 5 ? 2 : 1; }

// Bytes of memory, or what takes as long, that a plan costs. Reading the weight is what all plans have in common; what
// they differ in is
// - whether enough is on its way from memory: by Little's law some 20 KB a multiprocessor (3.35 TB/s · 700 ns / 132 of
//   an H100, 12 KB of an A100), while a warp has 1 to 2 tiles on their way; and whether enough multiprocessors work.
//   Blocks that are left over when all others are done are not enough;
// - warps whose parts are shorter than the longest;
// - x, which each block reads, from the second cache, which is some three times as fast as memory;
// - sums of parts, which are written and read again, and a ticket and a fence of 1 to 2 µs in the end.
inline double gemv_cost(const TileShape& shape, std::int64_t tokens, const Device& device, int rows, int splits) {
  constexpr double kOnTheirWay = 20e3, kTilesOnTheirWay = 1.5, kBusy = 0.75, kCacheSpeed = 3, kStart = 1;
  const auto row_blocks = static_cast<double>((shape.row_tiles() + rows - 1) / rows);
  const std::int64_t tiles = (shape.col_tiles() + splits - 1) / splits;
  const std::int64_t longest = (tiles * rows + kGemvWarps - 1) / kGemvWarps;  // part of a warp
  const auto tile_bytes = static_cast<double>(shape.tile_bytes());
  const double blocks = row_blocks * splits;
  // As if all warps had the longest part, and a tile's time to begin and to end.
  const double bytes = blocks * kGemvWarps * (static_cast<double>(longest) + kStart) * tile_bytes;

  const double at_once = gemv_blocks_at_once(shape.bits) * device.processors;
  const double full = std::floor(blocks / at_once) * at_once, rest = blocks - full;
  const double needed = device.processors * kOnTheirWay;
  const double rest_speed = std::min({1.0, rest * kGemvWarps * kTilesOnTheirWay * tile_bytes / needed,
                                      rest / (device.processors * kBusy)});
  double cost = bytes * (full / blocks + (rest > 0 ? rest / blocks / rest_speed : 0));

  cost += blocks * static_cast<double>(tokens * tiles * kTile * 2) / kCacheSpeed;
  if (splits > 1) {
    const double sums = static_cast<double>(shape.row_tiles() * kTile * tokens * 4) * splits;
    cost += 2 * sums + needed;  // what memory delivers in 1 µs or so
  }
  return cost;
}

inline GemvPlan gemv_plan(const TileShape& shape, std::int64_t tokens, const Device& device) {
  constexpr double kMostSums = 0.02;  // bytes of sums of parts, for each of the weight: they are traffic, too
  const auto weight = static_cast<double>(shape.code_bytes());
  const auto sums = static_cast<double>(shape.row_tiles() * kTile * tokens * 4);
  GemvPlan best{1, 1, 1};
  double least = gemv_cost(shape, tokens, device, 1, 1);
  for (int rows = 1; rows <= kGemvWarps; rows *= 2) {
    // A warp should have two tiles at least.
    const std::int64_t most = std::max<std::int64_t>(1, shape.col_tiles() * rows / kGemvWarps / 2);
    for (int splits = 1; splits <= most && (splits == 1 || splits * sums <= kMostSums * weight); ++splits) {
      const double cost = gemv_cost(shape, tokens, device, rows, splits);
      if (cost >= least) continue;
      least = cost;
      best = {rows, splits, 1};
    }
  }
  return best;
}

}  // namespace eqnet::cuda
