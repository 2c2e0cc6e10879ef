// Prints how long loops of two threads take while other processes want every core, and how much an idle pool takes.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <thread>
#include <vector>

#include "eqnet/threads.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kCalls = 1000;
constexpr std::int64_t kTasks = 16;
constexpr std::chrono::microseconds kTask{20};

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

// Work of a fixed size: it takes longer if the core is taken away.
void work(std::int64_t steps) {
  volatile std::int64_t counter = 0;
  for (std::int64_t i = 0; i < steps; ++i) counter = counter + 1;
}

void print(const char* name, int threads, std::int64_t steps) {
  std::vector<double> times;
  for (int call = 0; call < kCalls; ++call) {
    const auto start = Clock::now();
    eqnet::parallel_for(kTasks, threads, [&](std::int64_t) { work(steps); });
    times.push_back(milliseconds(Clock::now() - start));
  }
  std::sort(times.begin(), times.end());
  std::printf("%-24s %d threads: median %.3f ms, 95%% below %.3f ms, most %.3f ms\n", name, threads, times[kCalls / 2],
              times[kCalls * 95 / 100], times.back());
}

}  // namespace

int main() {
  std::int64_t steps = 1000;
  for (Clock::duration took{0}; took < kTask; steps = steps * 5 / 4) {
    const auto start = Clock::now();
    work(steps);
    took = Clock::now() - start;
  }
  std::printf("%d tasks of about %d us\n", static_cast<int>(kTasks), static_cast<int>(kTask.count()));
  for (const int threads : {1, 2}) print("alone", threads, steps);

  std::vector<pid_t> others;
  for (unsigned core = 0; core < std::thread::hardware_concurrency(); ++core) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      for (;;) work(1000);
    }
    others.push_back(child);
  }
  for (const int threads : {1, 2}) print("beside busy processes", threads, steps);
  for (const pid_t child : others) kill(child, SIGKILL);
  for (const pid_t child : others) waitpid(child, nullptr, 0);

  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  std::printf("idle for 1 s: %.3f ms of processor time\n", 1e3 * used);
}
