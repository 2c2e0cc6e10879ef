// Which stages of which units a block multiplies, as gemm_plan.h draws it.
#pragma once

#include "gemm_plan.h"

namespace eqnet::cuda {

// Where the stripe of a block begins, in stages of the rest.
__device__ __forceinline__ int stripe_begin(const GemmPlan& plan, int block) {
  if (block >= plan.stripes) return plan.rest_stages;
  return static_cast<int>(static_cast<unsigned>(block) * static_cast<unsigned>(plan.rest_stages) /
                          static_cast<unsigned>(plan.stripes));
}

// The block in whose stripe a stage of the rest is.
__device__ __forceinline__ int stripe_of(const GemmPlan& plan, int stage) {
  return static_cast<int>((static_cast<unsigned>(stage + 1) * static_cast<unsigned>(plan.stripes) - 1) /
                          static_cast<unsigned>(plan.rest_stages));
}

// Where a block is in its list: stages [stage, end) of a unit.
struct Work {
  int stage, end;
  int wave;      // of what comes next, and
  int position;  // in the stripe
};

// How many stages a block multiplies.
__device__ __forceinline__ int count_stages(const GemmPlan& plan, int block) {
  return plan.waves * plan.stages + stripe_begin(plan, block + 1) - stripe_begin(plan, block);
}

__device__ __forceinline__ void take_unit(const GemmPlan& plan, Work& work) {
  work.stage = 0;
  work.end = plan.stages;
  if (++work.wave <= plan.waves) return;
  const int block = static_cast<int>(blockIdx.x);
  if (work.wave == plan.waves + 1) work.position = stripe_begin(plan, block);
  work.stage = work.position % plan.stages;
  work.end = min(plan.stages, work.stage + stripe_begin(plan, block + 1) - work.position);
  work.position += work.end - work.stage;
}

struct Unit {
  int row_block, token_block;
  int rest;  // its number among those of the rest; negative for one of a wave
};

// Units lie in bands of row blocks, and in these by tokens: so those that are multiplied at the same time have few rows
// and few tokens between them, which the second cache holds.
__device__ __forceinline__ Unit unit_of(const GemmPlan& plan, const Work& work) {
  const int blocks = static_cast<int>(gridDim.x);
  const bool in_wave = work.wave <= plan.waves;
  const int rest = in_wave ? -1 : (work.position - 1) / plan.stages;
  const int unit = in_wave ? (work.wave - 1) * blocks + static_cast<int>(blockIdx.x) : plan.waves * blocks + rest;
  const int band_units = plan.near_rows * plan.token_blocks;
  const int band = unit / band_units, within = unit - band * band_units;
  const int first_row = band * plan.near_rows, rows = min(plan.near_rows, plan.row_blocks - first_row);
  const int token_block = within / rows;
  return {first_row + within - token_block * rows, token_block, rest};
}

}  // namespace eqnet::cuda
