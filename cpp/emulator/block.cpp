#include "block.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "machine.h"

namespace eqnet::emulator {

void Block::enter() {
  Block& block = machine().block;
  (*block.kernel_)();
  block.finish(block.thread());
  block.thread().fiber.suspend();
}

void Block::finish(Thread& thread) {
  if (thread.copies.pending()) {
    machine().find(Kind::kUnfinished, thread.copies.first_site(),
                   "the thread returns and has not waited for this copy");
  }
  thread.copies.clear();
  thread.state = Thread::State::kReturned;
}

void Block::begin_launch() {
  warps_.clear();  // with the places in the source that they know
  clocks_.begin_launch();
}

void Block::start(const dim3& size) {
  count_ = static_cast<int>(size.x * size.y * size.z);
  if (made_ < static_cast<std::size_t>(count_)) {
    made_ = static_cast<std::size_t>(count_);
    threads_ = std::make_unique<Thread[]>(made_);
  }
  warps_.resize(static_cast<std::size_t>((count_ + kLanes - 1) / kLanes));
  for (int i = 0; i < static_cast<int>(warps_.size()); ++i) {
    Warp& warp = warps_[static_cast<std::size_t>(i)];
    warp.number = i;
    warp.first = &threads_[static_cast<std::size_t>(i * kLanes)];
    warp.threads = std::min(kLanes, count_ - i * kLanes);
  }
  for (int i = 0; i < count_; ++i) {
    Thread& thread = threads_[static_cast<std::size_t>(i)];
    const auto number = static_cast<unsigned>(i);
    thread.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
    thread.number = i;
    thread.lane = i % kLanes;
    thread.warp = &warps_[static_cast<std::size_t>(i / kLanes)];
    thread.state = Thread::State::kReady;
    thread.copies.clear();
    thread.fiber.start(&Block::enter);
  }
  clocks_.begin_block(count_);
  given_ = 0;
}

void Block::resume(Thread& thread) {
  current_ = &thread;
  threadIdx = thread.index;
  thread.fiber.resume();
}

unsigned Block::returned_lanes(const Warp& warp) const {
  unsigned lanes = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool gone = lane >= warp.threads || warp.first[lane].state == Thread::State::kReturned;
    lanes |= static_cast<unsigned>(gone) << lane;
  }
  return lanes;
}

// Lets go on those of a warp's threads for whom all are there that they wait for.
bool Block::release_lanes(Warp& warp) {
  bool any = false;
  const unsigned returned = returned_lanes(warp);
  for (int lane = 0; lane < warp.threads; ++lane) {
    Thread& thread = warp.first[lane];
    if (thread.state != Thread::State::kAtWarp) continue;
    const Wait& wait = thread.wait;
    const unsigned missing = wait.lanes & returned;
    bool complete = true;
    for (int other = 0; other < warp.threads; ++other) {
      if (!(wait.lanes >> other & 1) || (missing >> other & 1)) continue;
      const Thread& peer = warp.first[other];
      complete = complete && peer.state == Thread::State::kAtWarp && peer.wait.lanes == wait.lanes &&
                 (peer.wait.operation == wait.operation || std::strcmp(peer.wait.operation, wait.operation) == 0) &&
                 (!wait.same_site || peer.wait.site == wait.site);
    }
    if (!complete) continue;
    if (missing != 0) {
      machine().find(Kind::kDivergence, wait.site, thread,
                     std::string(wait.operation) + " names lane " + std::to_string(__builtin_ctz(missing)) +
                         ", which has returned or does not exist");
    }
    const unsigned lanes = wait.lanes & ~missing;
    if ((lanes | returned) == ~0u) warp.accesses.flush(machine().report, machine().cache);
    current_ = &thread;
    if (wait.combine != nullptr) wait.combine(warp, lanes);
    for (int other = 0; other < warp.threads; ++other) {
      if (lanes >> other & 1) warp.first[other].state = Thread::State::kReady;
    }
    any = true;
  }
  return any;
}

void Block::run_warp(Warp& warp) {
  do {
    for (int lane = 0; lane < warp.threads; ++lane) {
      if (warp.first[lane].state == Thread::State::kReady) resume(warp.first[lane]);
    }
  } while (release_lanes(warp));
}

// Lets all threads go on from a barrier of the block. False if not all are at the same one.
bool Block::release_block() {
  const Thread* waiting = nullptr;
  const Thread* returned = nullptr;
  for (int i = 0; i < count_; ++i) {
    const Thread& thread = threads_[static_cast<std::size_t>(i)];
    if (thread.state == Thread::State::kReturned) {
      returned = &thread;
    } else if (thread.state != Thread::State::kAtBlock ||
               (waiting != nullptr && thread.wait.site != waiting->wait.site)) {
      return false;
    } else if (waiting == nullptr) {
      waiting = &thread;
    }
  }
  if (returned != nullptr) {
    machine().find(Kind::kDivergence, waiting->wait.site, *waiting,
                   std::string(waiting->wait.operation) + ", but thread " + std::to_string(returned->number) +
                       " of the block has returned");
  }
  clocks_.join_block();
  ++machine().report.barriers;
  result_ = given_;
  given_ = 0;
  for (Warp& warp : warps_) warp.accesses.flush(machine().report, machine().cache);
  for (int i = 0; i < count_; ++i) {
    Thread& thread = threads_[static_cast<std::size_t>(i)];
    if (thread.state == Thread::State::kAtBlock) thread.state = Thread::State::kReady;
  }
  return true;
}

// Tells of two threads of one warp, or else of the block, that wait for one another in different places.
void Block::tell_divergence() {
  const Thread* first = nullptr;
  const Thread* other = nullptr;
  for (int i = 0; i < count_; ++i) {
    const Thread& thread = threads_[static_cast<std::size_t>(i)];
    if (thread.state == Thread::State::kReturned) continue;
    if (first == nullptr) first = &thread;
    const bool differs = thread.state != first->state || thread.wait.site != first->wait.site ||
                         thread.wait.lanes != first->wait.lanes;
    if (differs && other == nullptr) other = &thread;
  }
  std::string text = std::string("waits in ") + first->wait.operation + " without end";
  if (other != nullptr) {
    text += ": thread " + std::to_string(other->number) + " waits in " + other->wait.operation + " at line " +
            std::to_string(other->wait.site.line);
  }
  machine().find(Kind::kDivergence, first->wait.site, *first, text);
}

bool Block::run(const dim3& size, const uint3& index, const std::function<void()>& kernel) {
  kernel_ = &kernel;
  index_ = index;
  blockIdx = index;
  start(size);
  for (;;) {
    for (Warp& warp : warps_) run_warp(warp);
    const bool over = std::all_of(&threads_[0], &threads_[0] + count_,
                                  [](const Thread& thread) { return thread.state == Thread::State::kReturned; });
    if (!over && release_block()) continue;
    if (!over) tell_divergence();
    for (Warp& warp : warps_) warp.accesses.flush(machine().report, machine().cache);
    return over;
  }
}

void Block::wait_in_warp(const Wait& wait) {
  Thread& thread = *current_;
  if (!(wait.lanes >> thread.lane & 1)) {
    machine().find(Kind::kArgument, wait.site,
                   std::string(wait.operation) + " by lane " + std::to_string(thread.lane) +
                       ", which its mask does not name");
    return;
  }
  thread.wait = wait;
  thread.state = Thread::State::kAtWarp;
  thread.fiber.suspend();
}

int Block::wait_in_block(const Wait& wait, bool value) {
  Thread& thread = *current_;
  given_ += value;
  thread.wait = wait;
  thread.state = Thread::State::kAtBlock;
  thread.fiber.suspend();
  return result_;
}

}  // namespace eqnet::emulator
