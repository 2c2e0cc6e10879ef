// How a product with many tokens is divided among warps, blocks and processors.
//
// A warp multiplies one tile of the weight at a time with 16, 32 or 64 tokens, so that of all warps of a block no two
// unpack the same weight unless they have different tokens. The warps of a block lie beside each other in up to three
// ways: along rows, along columns, whose sums the block adds up in the end, and along tokens.
//
// A unit is what a block makes of y at a time: row_warps · 64 channels by token_warps · tokens. It takes `stages`
// stages, each of col_warps tiles of columns. As many units as there are blocks make a wave; those that are left after
// the last whole wave are divided by stages, in stripes of almost equal length, one a block:
//
//     units      |     0     |     1     |     2     |        blocks of which one ends, or begins, within a unit leave
//     stripes    |   0   |   1   |   2   |   3   | 4 |        sums of a part of the columns in memory; the last one to
//                                                             come adds them up, in the order of the columns
#pragma once

#include <algorithm>
#include <cstdint>

#include "product.h"

namespace eqnet::cuda {

struct Arrangement {
  int tokens;                         // of a warp
  int row_log, col_log, token_log;    // of the warps along rows, along columns (up to 2) and along tokens

  __host__ __device__ int row_warps() const { return 1 << row_log; }
  __host__ __device__ int col_warps() const { return 1 << col_log; }
  __host__ __device__ int token_warps() const { return 1 << token_log; }
  __host__ __device__ int warps() const { return 1 << (row_log + col_log + token_log); }
};

// Those with warps along columns are for few tokens and few rows: they leave shorter sums between blocks than as many
// blocks would.
constexpr Arrangement kArrangements[] = {
    {16, 0, 2, 0}, {16, 1, 1, 0}, {16, 1, 2, 0}, {16, 2, 1, 0},                 //
    {32, 0, 2, 0}, {32, 1, 1, 0}, {32, 1, 2, 0}, {32, 2, 1, 0},                 //
    {64, 1, 1, 0}, {64, 2, 0, 0}, {64, 1, 2, 0}, {64, 2, 1, 0}, {64, 2, 0, 1},
};

constexpr int kGemmThreads = 256;  // of a block, at most

// Warps whose registers a processor has: sums alone are 128 of each lane with 64 tokens, and 32 with 16.
__host__ __device__ constexpr int processor_warps(int tokens) { return tokens == 16 ? 16 : 8; }

constexpr int kMostSlots = 6;      // stages that are in shared memory
constexpr int kRoomFloats = 8 * 68;  // of a warp that stores y, 8 tokens at a time

struct GemmPlan {
  Arrangement arrangement;
  int row_blocks, token_blocks;  // of units
  int near_rows;                 // row blocks whose units come one after another for the same tokens
  int stages;                    // of a unit
  int waves;                     // whole units that each block makes
  int stripes;                   // blocks that share the rest
  int rest_stages;               // of all units of the rest
  int slots;                     // of stages in shared memory
  int slot_bytes;
  int tiles_at, factors_at;          // in a slot, after activations
  int scale_bytes, zeros_bytes;      // of the groups that a tile can meet
  unsigned group_steps_inverse;      // 2^31 / group_steps, rounded up
  bool grouped;                      // whether there are more scales than one a channel
  int blocks;

  int shared_bytes() const { return slots * slot_bytes + 16; }
  int rest_units() const { return rest_stages / stages; }
  std::int64_t part_bytes() const {
    return std::int64_t{arrangement.row_warps()} * arrangement.token_warps() * arrangement.tokens * kTile * 4;
  }
};

// What a plan depends on.
struct GemmSize {
  int row_tiles, col_tiles;
  int groups, group_steps;
  int bits;
  std::int64_t tokens;

  int tile_bytes() const { return bits * static_cast<int>(kLineBytes); }

  static GemmSize of(const TileShape& shape, std::int64_t tokens) {
    return {static_cast<int>(shape.row_tiles()),
            static_cast<int>(shape.col_tiles()),
            static_cast<int>(shape.groups()),
            static_cast<int>(shape.group_steps()),
            shape.bits,
            tokens};
  }
};

// Cycles that one of the four parts of a processor takes for an mma of 16x8x16 with sums in float32.
struct Speed {
  int capability;
  int mma_cycles;
};
constexpr Speed kSpeeds[] = {{75, 32}, {80, 8}, {86, 16}, {90, 5}, {120, 16}};

inline int mma_cycles(const Device& device) {
  int cycles = kSpeeds[0].mma_cycles;
  for (const Speed& speed : kSpeeds) {
    if (speed.capability <= device.capability) cycles = speed.mma_cycles;
  }
  return cycles;
}

// Groups that a tile can meet.
inline int groups_of_tile(int group_steps) {
  if (group_steps % kTileSteps == 0) return 1;
  return group_steps == 1 ? 4 : 2;
}

// Slots for as many blocks in a processor; 0 if there is no room for two.
inline int slots_of(const GemmPlan& plan, int together, const Device& device) {
  constexpr int kReserved = 1024;  // of each block, by CUDA
  const int most = std::min(device.shared_bytes, device.processor_shared_bytes / together - kReserved);
  const int slots = std::min(kMostSlots, (most - 16) / plan.slot_bytes);
  return slots < 2 ? 0 : slots;
}

// The plan with one arrangement, without waves and stripes. 0 slots if a processor has no room for `together` blocks.
inline GemmPlan plan_block(const GemmSize& size, const Arrangement& arrangement, int together, const Device& device) {
  const auto parts = [](std::int64_t all, std::int64_t part) { return static_cast<int>((all + part - 1) / part); };
  const int tiles = arrangement.row_warps() * arrangement.col_warps();
  const int groups = groups_of_tile(size.group_steps);
  GemmPlan plan{};
  plan.arrangement = arrangement;
  plan.row_blocks = parts(size.row_tiles, arrangement.row_warps());
  plan.token_blocks = parts(size.tokens, arrangement.tokens * arrangement.token_warps());
  plan.near_rows = plan.token_blocks <= 8 ? 1 : std::min(16, plan.row_blocks);
  plan.stages = parts(size.col_tiles, arrangement.col_warps());
  plan.grouped = size.groups > 1;
  // As if scales were float32 and zero points were given: what a product needs does not depend on them.
  plan.scale_bytes = plan.grouped ? groups * static_cast<int>(kTile) * 4 : 0;
  plan.zeros_bytes = groups * static_cast<int>(kTile);
  plan.group_steps_inverse =
      static_cast<unsigned>(((std::int64_t{1} << 31) + size.group_steps - 1) / size.group_steps);
  plan.tiles_at = arrangement.tokens * arrangement.token_warps() * arrangement.col_warps() * 128;
  plan.factors_at = plan.tiles_at + tiles * size.tile_bytes();
  const int stage_bytes = plan.factors_at + tiles * (plan.scale_bytes + plan.zeros_bytes);
  // What a unit ends with: sums that the warps of some columns give to others, and then 8 tokens of each warp.
  const int given_bytes = arrangement.col_warps() == 1 ? 0 : 4 / arrangement.col_warps() * arrangement.tokens * 64;
  const int end_bytes = arrangement.warps() * std::max(given_bytes, kRoomFloats * 4);
  plan.slot_bytes = (std::max(stage_bytes, end_bytes) + 127) / 128 * 128;
  plan.slots = slots_of(plan, together, device);
  return plan;
}

// Finds the waves and stripes that take the fewest cycles, by a rough model of a processor, and returns these.
inline double divide(GemmPlan& plan, const GemmSize& size, int together, const Device& device) {
  constexpr double kCacheBytes = 40, kMemoryBytes = 12;  // that a processor gets in a cycle
  constexpr double kHandOver = 2500;                     // cycles until another block has seen what a block has written
  constexpr double kMostSums = 0.125;                    // of parts, in bytes of all operands: they may reach memory
  const Arrangement& arrangement = plan.arrangement;
  const int warps = arrangement.warps(), places = device.processors * together;
  const int wide = arrangement.tokens / 8;
  // Tensor cores, issue slots and the second cache: what takes longest hides the others, but not all of them.
  const double parts[] = {4.0 * warps * wide * mma_cycles(device), warps * (80.0 + 5 * wide),
                          plan.slot_bytes / kCacheBytes};
  const double longest_part = std::max({parts[0], parts[1], parts[2]});
  const double busy = longest_part + 0.25 * (parts[0] + parts[1] + parts[2] - longest_part);
  const double end = 300.0 + 100 * wide;
  const std::int64_t units = std::int64_t{plan.row_blocks} * plan.token_blocks;
  const int rest = static_cast<int>(units % places);
  plan.waves = static_cast<int>(units / places);
  plan.rest_stages = rest * plan.stages;
  plan.blocks = plan.waves > 0 ? places : rest;
  plan.stripes = rest;

  const double weight_bytes = static_cast<double>(size.row_tiles) * size.col_tiles * size.tile_bytes();
  const double operand_bytes =
      weight_bytes + 2.0 * static_cast<double>(size.tokens) * kTile * (size.row_tiles + size.col_tiles);
  // Latency that the other warps do not hide.
  const auto exposed = [&](int beside) { return beside * warps >= 16 ? 1.0 : beside * warps >= 8 ? 1.1 : 1.4; };
  const auto cycles = [&](int stripes, double written_parts, double parts) {
    const int longest = rest == 0 ? 0 : (plan.rest_stages + stripes - 1) / stripes;
    const int beside = (stripes + device.processors - 1) / device.processors;  // blocks of a processor
    const double part_bytes = static_cast<double>(plan.part_bytes());
    const double hand_over = parts > 1 ? kHandOver + (1 + parts) * part_bytes * beside / kCacheBytes : 0;
    const double memory = (weight_bytes + written_parts * rest * part_bytes) / (kMemoryBytes * device.processors);
    const double stages = static_cast<double>(plan.waves) * plan.stages * together * exposed(together) +
                          beside * longest * exposed(beside);
    return std::max(memory, stages * busy) + hand_over + end * (plan.waves * together + beside);
  };
  double best = cycles(plan.stripes, 0, 1);
  // p stripes for each q units leave p + q - 1 parts, of which the last of each unit is written nowhere.
  for (int q = 1; q <= 4 && rest > 0; ++q) {
    const int p = std::min(places * q / rest, q * plan.stages);
    const int stripes = rest * p / q;
    const double written = (p - 1.0) / q * rest * static_cast<double>(plan.part_bytes());
    if (p <= q || stripes <= rest || written > kMostSums * operand_bytes) continue;
    const double found = cycles(stripes, (p - 1.0) / q, (p + q - 1.0) / q);
    if (found >= best) continue;
    best = found;
    plan.stripes = stripes;
    plan.blocks = std::max(plan.waves > 0 ? places : 0, stripes);
  }
  return best;
}

inline GemmPlan plan_gemm(const GemmSize& size, const Device& device) {
  GemmPlan best{};
  double fewest = 0;
  for (const Arrangement& arrangement : kArrangements) {
    for (int together = processor_warps(arrangement.tokens) / arrangement.warps(); together > 0; --together) {
      GemmPlan plan = plan_block(size, arrangement, together, device);
      if (plan.slots == 0) continue;
      const double cycles = divide(plan, size, together, device);
      if (best.slots == 0 || cycles < fewest) {
        best = plan;
        fewest = cycles;
      }
      break;
    }
  }
  // Fewer blocks than there is room for have more of it.
  best.slots = slots_of(best, (best.blocks + device.processors - 1) / device.processors, device);
  return best;
}

}  // namespace eqnet::cuda
