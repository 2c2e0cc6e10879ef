#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace eqnet::emulator {

constexpr int kLanes = 32;

// Which actions of a block's threads come before which others, as vector clocks: each thread has a time of its own, and
// only barriers tell it the times of others. What shuffles and votes exchange orders nothing in memory.
class Clocks {
 public:
  void begin_launch();
  void begin_block(int threads);  // after everything of earlier blocks
  void join_block();              // a barrier of the block
  void join_warp(int warp, unsigned lanes);  // a barrier of some lanes of a warp

  std::uint32_t now(int thread) const { return now_[static_cast<std::size_t>(thread)]; }
  std::uint32_t block_start() const { return block_start_; }
  std::uint32_t last_barrier() const { return last_barrier_; }  // what was before it is before all that is now

  // Whether what `other` did at its time `then` is before what `thread` does now.
  bool is_before(int other, std::uint32_t then, int thread) const {
    if (other == thread || then < last_barrier_) return true;
    return other / kLanes == thread / kLanes && then < seen(thread, other % kLanes);
  }

  // Up to which time of a lane in its own warp a thread knows what was done.
  std::uint32_t seen(int thread, int lane) const {
    return seen_[static_cast<std::size_t>(thread)][static_cast<std::size_t>(lane)];
  }

 private:
  std::vector<std::uint32_t> now_;
  std::vector<std::array<std::uint32_t, kLanes>> seen_;
  std::uint32_t block_start_ = 1;
  std::uint32_t last_barrier_ = 1;
};

}  // namespace eqnet::emulator
