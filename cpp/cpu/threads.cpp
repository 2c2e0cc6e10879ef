#include "eqnet/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace eqnet {
namespace {

// How long a worker without work stays awake. A layer of a network follows the one before within this time, so that
// it meets threads that are awake; what spins longer would burn a core that others could use.
constexpr std::chrono::microseconds kAwake{50};
constexpr int kSpinsPerLook = 64;  // at the clock

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr int kMostShares = 64;  // more threads than that begin with the share of another
constexpr std::int64_t kMostIndices = 0xffffffff;

// The indices of a share that are left, in one word.
struct Range {
  std::int64_t first, end;

  static Range of(std::uint64_t word) {
    return {static_cast<std::int64_t>(word >> 32), static_cast<std::int64_t>(word & 0xffffffffu)};
  }
  std::uint64_t packed() const { return static_cast<std::uint64_t>(first) << 32 | static_cast<std::uint64_t>(end); }
};

// One job at a time. `inside_` counts the workers that may touch the job: the caller closes the job when no index is
// left, and waits until nobody is inside; whoever enters later finds it closed and leaves. All atomics are sequentially
// consistent, as entering (count, then look) and closing (shut, then look) must not be seen in different orders.
class Pool {
 public:
  bool try_run(std::int64_t count, int threads, detail::Task task, const void* body) {
    if (busy_.exchange(true)) return false;
    const int helpers = static_cast<int>(std::min<std::int64_t>(threads, count)) - 1;
    grow(helpers);
    task_ = task;
    body_ = body;
    share(count, helpers + 1);
    seats_ = helpers;
    open_ = true;
    epoch_.fetch_add(1);
    if (asleep_.load() > 0) {
      { const std::lock_guard<std::mutex> lock(mutex_); }
      wake_.notify_all();
    }
    work(0);
    open_ = false;
    for (int spins = 0; inside_.load() > 0; ++spins) {
      if (spins < 1000) {
        relax();
      } else {
        std::this_thread::yield();  // the worker may be waiting for this very core
      }
    }
    busy_ = false;
    return true;
  }

 private:
  void grow(int helpers) {
    for (; workers_ < helpers; ++workers_) {
      try {
        std::thread([this, seen = epoch_.load()]() mutable {
          for (;;) {
            await(seen);
            inside_.fetch_add(1);
            if (open_.load()) {
              const int seat = seats_.fetch_sub(1);
              if (seat > 0) work(seat);
            }
            inside_.fetch_sub(1);
          }
        }).detach();
      } catch (const std::system_error&) {
        return;  // the system has no thread to give: those that are there do the work
      }
    }
  }

  // Cuts the indices into a share for each thread: what one thread reads is in order, and can be fetched ahead.
  void share(std::int64_t count, int threads) {
    shares_ = std::min(threads, kMostShares);
    for (int i = 0; i < shares_; ++i) left_[i].range = Range{count * i / shares_, count * (i + 1) / shares_}.packed();
  }

  // Takes one's own share from its front on, and then what is left of the others' from their backs on.
  void work(int seat) {
    for (int i = 0; i < shares_; ++i) {
      std::atomic<std::uint64_t>& range = left_[(seat + i) % shares_].range;
      for (std::int64_t index; (index = take(range, i == 0)) >= 0;) task_(body_, index);
    }
  }

  // One index of a range, or -1 if none is left.
  static std::int64_t take(std::atomic<std::uint64_t>& range, bool front) {
    std::uint64_t seen = range.load();
    for (;;) {
      Range left = Range::of(seen);
      if (left.first >= left.end) return -1;
      const std::int64_t index = front ? left.first++ : --left.end;
      if (range.compare_exchange_weak(seen, left.packed())) return index;
    }
  }

  // Returns when there has been a job since epoch `seen`, which it brings up to date.
  void await(std::uint64_t& seen) {
    const auto until = std::chrono::steady_clock::now() + kAwake;
    do {
      for (int i = 0; i < kSpinsPerLook; ++i) {
        if (moved_on(seen)) return;
        relax();
      }
    } while (std::chrono::steady_clock::now() < until);
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.fetch_add(1);
    wake_.wait(lock, [&] { return moved_on(seen); });
    asleep_.fetch_sub(1);
  }

  bool moved_on(std::uint64_t& seen) const {
    const std::uint64_t now = epoch_.load();
    const bool moved = now != seen;
    seen = now;
    return moved;
  }

  // What all threads write is kept apart from what they only read.
  struct alignas(64) Left {
    std::atomic<std::uint64_t> range{0};
  };
  Left left_[kMostShares];
  alignas(64) std::atomic<int> inside_{0};
  std::atomic<int> seats_{0};
  alignas(64) std::atomic<std::uint64_t> epoch_{0};
  std::atomic<bool> open_{false};
  std::atomic<bool> busy_{false};
  detail::Task task_ = nullptr;
  const void* body_ = nullptr;
  int shares_ = 1;
  int workers_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> asleep_{0};
};

// Never destroyed: its workers outlive every static object. A forked child has no workers, and so makes a new one.
std::atomic<Pool*> current{nullptr};

Pool& pool() {
  Pool* found = current.load();
  if (found != nullptr) return *found;
#if defined(__unix__) || defined(__APPLE__)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { current = nullptr; });
  (void)registered;
#endif
  auto* made = new Pool;
  if (current.compare_exchange_strong(found, made)) return *made;
  delete made;  // another thread was first; this one has no workers yet
  return *found;
}

}  // namespace

void detail::run(std::int64_t count, int threads, Task task, const void* body) {
  if (count <= kMostIndices && pool().try_run(count, threads, task, body)) return;
  for (std::int64_t i = 0; i < count; ++i) task(body, i);
}

}  // namespace eqnet
