#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace eqnet::emulator {

// Which writes to global memory come before what a block does now, though another block of the launch made them: those
// after which the other block has called __threadfence and then changed something atomically, if this one has since
// changed something atomically too. All else two blocks may do at once.
//
// Writes are stamped. Stamps grow, and each belongs to one block, which gets a new one with each fence. A fence of one
// thread is taken for one of all that have written by then.
class BlockOrder {
 public:
  void begin_launch() {
    known_.clear();
    launch_start_ = block_start_ = now_ + 1;
  }
  void begin_block() {
    block_start_ = ++now_;
    known_.resize(index(now_) + 1);
    fenced_ = told_ = index(now_);
    atomic_ = false;
  }
  void fence() {
    fenced_ = index(++now_);
    known_.push_back(false);
  }
  void change_atomically() {
    atomic_ = true;
    for (; told_ < fenced_; ++told_) known_[told_] = true;
  }

  std::uint32_t now() const { return now_; }
  bool is_of_launch(std::uint32_t stamp) const { return stamp >= launch_start_; }
  bool is_before(std::uint32_t stamp) const {
    return stamp < launch_start_ || stamp >= block_start_ || (atomic_ && known_[index(stamp)]);
  }

 private:
  std::size_t index(std::uint32_t stamp) const { return stamp - launch_start_; }

  std::vector<bool> known_;  // of stamps of this launch
  std::uint32_t launch_start_ = 1;
  std::uint32_t block_start_ = 1;
  std::uint32_t now_ = 0;
  std::size_t fenced_ = 0;  // the first stamp after the last fence
  std::size_t told_ = 0;    // the first stamp that no atomic change made known
  bool atomic_ = false;
};

}  // namespace eqnet::emulator
