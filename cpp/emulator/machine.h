// The launch that runs: one at a time in a process.
#pragma once

#include <string>

#include "block.h"
#include "block_order.h"
#include "cache.h"
#include "report.h"
#include "shared.h"

namespace eqnet::emulator {

struct Machine {
  std::string kernel;
  Report report;
  SharedMemory shared;
  Block block;
  BlockOrder order;
  SectorCache cache;

  // Adds a finding about a thread, or about the one that runs.
  void find(Kind kind, const Site& site, const Thread& thread, std::string text);
  void find(Kind kind, const Site& site, std::string text) { find(kind, site, block.thread(), std::move(text)); }
};

Machine& machine();

}  // namespace eqnet::emulator

// What kernels know of themselves, set whenever a thread goes on.
inline uint3 threadIdx;
inline uint3 blockIdx;
inline dim3 blockDim;
inline dim3 gridDim;
constexpr int warpSize = eqnet::emulator::kLanes;
