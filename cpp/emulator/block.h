#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "clocks.h"
#include "copies.h"
#include "fiber.h"
#include "report.h"
#include "traffic.h"

namespace eqnet::emulator {

struct Warp;

// What a thread waits for, together with others.
struct Wait {
  const char* operation;  // by which all call it
  Site site;
  unsigned lanes;                            // that take part, of its warp
  bool same_site;                            // whether they must be at the same place in the source
  void* operands;                            // of this thread, in and out
  void (*combine)(Warp& warp, unsigned lanes);  // makes out of in when all are there, or null
};

struct Thread {
  enum class State { kReady, kAtWarp, kAtBlock, kReturned };

  Fiber fiber;
  uint3 index{};
  int number = 0;  // in the block
  int lane = 0;
  Warp* warp = nullptr;
  State state = State::kReturned;
  Wait wait{};
  Copies copies;
};

struct Warp {
  int number = 0;
  int threads = 0;
  Thread* first = nullptr;
  WarpAccesses accesses;

  template <typename Operands>
  Operands& operands(int lane) {
    return *static_cast<Operands*>(first[lane].wait.operands);
  }
  Site site(unsigned lanes) const { return first[__builtin_ctz(lanes)].wait.site; }
};

// The threads of one block, each a fiber. They run one at a time, each until it waits for others or returns.
class Block {
 public:
  void begin_launch();
  // Runs a block. False if its threads wait for what cannot come; nothing can be run after that.
  bool run(const dim3& size, const uint3& index, const std::function<void()>& kernel);

  Thread& thread() { return *current_; }  // that runs
  Clocks& clocks() { return clocks_; }
  const uint3& index() const { return index_; }

  // Called by threads: waits until all of `wait.lanes`, of its warp, do so.
  void wait_in_warp(const Wait& wait);
  // Waits until all threads of the block do so. Returns how many gave a value that is not zero.
  int wait_in_block(const Wait& wait, bool value);

 private:
  std::unique_ptr<Thread[]> threads_;
  std::size_t made_ = 0;
  int count_ = 0;
  std::vector<Warp> warps_;
  Thread* current_ = nullptr;
  Clocks clocks_;
  uint3 index_{};
  int given_ = 0;  // values that are not zero, at the barrier that is waited for
  int result_ = 0;
  const std::function<void()>* kernel_ = nullptr;

  void start(const dim3& size);
  void resume(Thread& thread);
  void run_warp(Warp& warp);
  bool release_lanes(Warp& warp);
  bool release_block();
  unsigned returned_lanes(const Warp& warp) const;
  void finish(Thread& thread);
  void tell_divergence();

  static void enter();
};

}  // namespace eqnet::emulator
