#pragma once

#include <cstdint>
#include <vector>

namespace eqnet::emulator {

// Which writes to global memory come before what a block does now, though another block of the launch made them: those
// after which the other block has called __threadfence and then changed something atomically, if this one has since
// changed something atomically too. All else two blocks may do at once.
//
// Writes are stamped. Stamps grow, and each belongs to one block, which gets a new one when it has made its writes
// known.
class BlockOrder {
 public:
  void begin_launch() {
    known_.clear();
    launch_start_ = block_start_ = now_ + 1;
  }
  void begin_block() {
    known_.resize(now_ + 1 - launch_start_ + 1);
    block_start_ = ++now_;
    fenced_ = atomic_ = false;
  }
  void fence() { fenced_ = true; }
  void change_atomically() {
    atomic_ = true;
    if (!fenced_) return;
    known_.back() = true;
    known_.push_back(false);
    ++now_;
    fenced_ = false;
  }

  std::uint32_t now() const { return now_; }
  bool is_of_launch(std::uint32_t stamp) const { return stamp >= launch_start_; }
  bool is_before(std::uint32_t stamp) const {
    return stamp < launch_start_ || stamp >= block_start_ || (atomic_ && known_[stamp - launch_start_]);
  }

 private:
  std::vector<bool> known_;  // of stamps of this launch
  std::uint32_t launch_start_ = 1;
  std::uint32_t block_start_ = 1;
  std::uint32_t now_ = 0;
  bool fenced_ = false;
  bool atomic_ = false;
};

}  // namespace eqnet::emulator
