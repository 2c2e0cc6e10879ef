#include "clocks.h"

#include <algorithm>

namespace eqnet::emulator {

void Clocks::begin_launch() {
  block_start_ = last_barrier_ = 1;  // 0 is never
  now_.assign(1, 0);
}

void Clocks::begin_block(int threads) {
  const std::uint32_t last = *std::max_element(now_.begin(), now_.end());
  block_start_ = last_barrier_ = last + 1;
  now_.assign(static_cast<std::size_t>(threads), block_start_);
  seen_.assign(static_cast<std::size_t>(threads), {});
}

void Clocks::join_block() {
  last_barrier_ = *std::max_element(now_.begin(), now_.end()) + 1;
  std::fill(now_.begin(), now_.end(), last_barrier_);
}

void Clocks::join_warp(int warp, unsigned lanes) {
  std::array<std::uint32_t, kLanes> joined{};
  std::uint32_t time = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    const auto thread = static_cast<std::size_t>(warp * kLanes + lane);
    time = std::max(time, now_[thread]);
    for (std::size_t i = 0; i < kLanes; ++i) joined[i] = std::max(joined[i], seen_[thread][i]);
  }
  ++time;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    if (lanes >> lane & 1) joined[lane] = time;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    const auto thread = static_cast<std::size_t>(warp * kLanes + lane);
    now_[thread] = time;
    seen_[thread] = joined;
  }
}

}  // namespace eqnet::emulator
