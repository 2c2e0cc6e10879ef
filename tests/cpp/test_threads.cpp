// The pool of threads: every index once, whoever calls, from wherever, and with whatever else is going on.
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <system_error>
#include <thread>
#include <vector>

#include "check.h"
#include "eqnet/threads.h"

namespace {

using eqnet::parallel_for;

constexpr double kIdleSeconds = 0.1;  // of processor time in one second of idleness; it is about 0.001

// Whether each index was visited once. Visits are no atomics: a caller sees what its helpers have written.
bool each_once(std::int64_t count, int threads) {
  std::vector<int> visits(static_cast<std::size_t>(count));
  parallel_for(count, threads, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
  for (const int n : visits) {
    if (n != 1) return false;
  }
  return true;
}

TEST(threads_visit_every_index_once) {
  for (int loop = 0; loop < 500; ++loop) {
    for (const int count : {0, 1, 2, 3, 17}) {
      for (const int threads : {0, 1, 2, 3, 9}) EXPECT(each_once(count, threads), "%d on %d", count, threads);
    }
  }
  for (int loop = 0; loop < 50; ++loop) EXPECT(each_once(1000, 3), "loop %d", loop);
  for (const int count : {70, 100, 1000}) EXPECT(each_once(count, 70), "%d on many", count);
}

TEST(threads_begin_apart) {
  for (int loop = 0; loop < 20; ++loop) {
    std::atomic<int> there{0};
    std::int64_t begun[2] = {-1, -1};
    parallel_for(100, 2, [&](std::int64_t i) {
      if (there < 2) begun[there++] = i;  // each waits for the other one, and so nobody else comes here
      while (there < 2) std::this_thread::yield();
    });
    EXPECT(begun[0] + begun[1] == 50 && begun[0] * begun[1] == 0, "%d and %d", static_cast<int>(begun[0]),
           static_cast<int>(begun[1]));
  }
}

TEST(threads_that_sleep_are_woken) {
  for (int loop = 0; loop < 50; ++loop) {
    EXPECT(each_once(5, 3), "loop %d", loop);
    std::this_thread::sleep_for(std::chrono::microseconds(40 * (loop % 10)));  // around the time that they stay awake
  }
}

TEST(threads_are_all_in_use) {
  // Each of two indices waits for the other one: only two threads can end this.
  for (int loop = 0; loop < 20; ++loop) {
    std::atomic<int> there{0};
    parallel_for(2, 2, [&](std::int64_t) {
      ++there;
      while (there < 2) std::this_thread::yield();
    });
    EXPECT(there == 2, "loop %d", loop);
  }
}

TEST(threads_are_at_most_those_asked_for) {
  each_once(100, 9);  // more are there
  for (int loop = 0; loop < 50; ++loop) {
    std::atomic<int> inside{0}, most{0};
    parallel_for(20, 2, [&](std::int64_t) {
      const int now = ++inside;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      std::this_thread::yield();
      --inside;
    });
    EXPECT(most <= 2, "%d", most.load());
  }
}

TEST(threads_serve_several_callers) {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([caller] {
      for (int loop = 0; loop < 300; ++loop) EXPECT(each_once(loop % 30, 2 + caller), "caller %d", caller);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(threads_take_loops_within_loops) {
  for (int loop = 0; loop < 50; ++loop) {
    std::vector<int> inner(12);
    parallel_for(12, 3, [&](std::int64_t i) { inner[static_cast<std::size_t>(i)] = each_once(7, 3); });
    for (const int ok : inner) EXPECT(ok == 1, "loop %d", loop);
  }
}

// Neither ThreadSanitizer nor QEMU knows threads in a child of a process that has some.
#if !defined(__SANITIZE_THREAD__) && !defined(EMULATED)
TEST(threads_are_there_after_a_fork) {
  EXPECT(each_once(20, 3), "before any fork");
  std::atomic<bool> done{false};
  // It allocates nothing: AddressSanitizer's allocator, unlike the C library's, stays locked in a child of a process
  // that forks while another thread is in it.
  std::thread other([&] {
    std::atomic<int> sum{0};
    while (!done) parallel_for(20, 3, [&](std::int64_t) { ++sum; });
  });
  for (int loop = 0; loop < 20; ++loop) {
    EXPECT(each_once(20, 3), "loop %d", loop);
    const pid_t child = fork();
    if (child == 0) {
      alarm(30);
      bool ok = true;
      for (int again = 0; again < 20; ++again) ok = ok && each_once(20, 3);
      _exit(ok ? 0 : 1);
    }
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child && status == 0, "status %d", status);
  }
  done = true;
  other.join();
}

TEST(threads_that_cannot_be_had_are_done_without) {
  const pid_t child = fork();
  if (child == 0) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    // A stack for which there is no memory. Without it there would be a thread, and nothing would be tested.
    const bool set = pthread_attr_setstacksize(&attributes, std::size_t{1} << 46) == 0 &&
                     pthread_setattr_default_np(&attributes) == 0;
    bool refused = false;
    try {
      std::thread([] {}).join();
    } catch (const std::system_error&) {
      refused = true;
    }
    _exit(set && refused && each_once(20, 3) && each_once(20, 3) ? 0 : 1);
  }
  int status = -1;
  EXPECT(waitpid(child, &status, 0) == child && status == 0, "status %d", status);
}
#endif

TEST(threads_rest_when_there_is_nothing_to_do) {
  EXPECT(each_once(1000, 5), "first");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT(used < kIdleSeconds, "%.3f s", used);
}

}  // namespace
