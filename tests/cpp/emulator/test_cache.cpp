// What reaches memory beyond the cache, by patterns of accesses that are written down.

#include <vector>

#include "findings.h"

namespace {

constexpr std::size_t kSector = 32;
constexpr std::size_t kFour = 4 * kSector;  // a cache of four sectors

struct Step {
  enum What { kLoad, kStore, kAdd } what;
  int sector;
};
constexpr Step load_of(int sector) { return {Step::kLoad, sector}; }
constexpr Step store_to(int sector) { return {Step::kStore, sector}; }
constexpr Step add_to(int sector) { return {Step::kAdd, sector}; }

// Holds what one thread's accesses, one after another, make memory read and write, in sectors.
void expect_memory(const char* what, const std::vector<Step>& steps, int reads, int writes,
                   std::size_t cache_bytes = kFour) {
  const Buffer<int> x("x", std::vector<int>(64 * 8));
  Launch launch{"steps", 1, 32};
  launch.cache_bytes = cache_bytes;
  const Report report = run(launch, [&] {
    for (const Step& step : steps) {
      int* const at = x.address() + step.sector * 8;
      if (threadIdx.x == 0 && step.what == Step::kLoad) load(at);
      if (threadIdx.x == 0 && step.what == Step::kStore) store(at, 1);
      if (threadIdx.x == 0 && step.what == Step::kAdd) atomicAdd(at, 1);
      __syncwarp();
    }
  });
  expect_clean(report);
  EXPECT(report.memory_read_bytes == reads * 32 && report.memory_written_bytes == writes * 32,
         "%s: %lld bytes read, %lld written", what, static_cast<long long>(report.memory_read_bytes),
         static_cast<long long>(report.memory_written_bytes));
}

TEST(cache_keeps_what_was_read) {
  expect_memory("nothing", {}, 0, 0);
  expect_memory("a hit", {load_of(3), load_of(3)}, 1, 0);
  expect_memory("four that fit", {load_of(0), load_of(1), load_of(2), load_of(3), load_of(0), load_of(3)}, 4, 0);
  expect_memory("five in turn",
                {load_of(0), load_of(1), load_of(2), load_of(3), load_of(4), load_of(0), load_of(1), load_of(2)}, 8, 0);
}

TEST(cache_gives_up_what_was_asked_for_the_longest_ago) {
  const std::vector<Step> filled{load_of(0), load_of(1), load_of(2), load_of(3), load_of(0), load_of(4)};
  const auto then = [&](Step step) {
    std::vector<Step> steps = filled;
    steps.push_back(step);
    return steps;
  };
  expect_memory("0 was asked for again", then(load_of(0)), 5, 0);
  expect_memory("1 made room", then(load_of(1)), 6, 0);
  expect_memory("2 stayed", then(load_of(2)), 5, 0);
  expect_memory("by a write, too",
                {load_of(0), load_of(1), load_of(2), load_of(3), store_to(0), load_of(4), load_of(0)}, 5, 1);
}

TEST(cache_writes_back_what_was_written) {
  expect_memory("at the end", {store_to(0)}, 0, 1);
  expect_memory("once", {store_to(0), store_to(0), load_of(0)}, 0, 1);
  expect_memory("what was read first", {load_of(0), store_to(0)}, 1, 1);
  expect_memory("when it makes room, and again",
                {store_to(0), load_of(1), load_of(2), load_of(3), load_of(4), store_to(0)}, 4, 2);
  expect_memory("when it makes room, and not again",
                {store_to(0), load_of(1), load_of(2), load_of(3), load_of(4), load_of(0)}, 5, 1);
  expect_memory("an atomic change", {add_to(5), add_to(5)}, 1, 1);
}

TEST(cache_may_be_none) {
  expect_memory("no cache", {load_of(0), load_of(0), store_to(0), store_to(0), add_to(0)}, 3, 3, 0);
}

TEST(cache_sees_whole_warps_and_is_empty_at_first) {
  const Buffer<const float> x("x", std::vector<float>(128));
  const Buffer<float> y("y", 128);
  for (int turn = 0; turn < 2; ++turn) {
    // Each block reads all of x, and writes a quarter of y in pieces of 4 bytes.
    const Report report = run({"copy", 4, 32}, [&] {
      for (unsigned i = 0; i < 4; ++i) load(x.address() + i * 32 + threadIdx.x);
      store(y.address() + blockIdx.x * 32 + threadIdx.x, 1.0f);
    });
    expect_clean(report);
    EXPECT(report.memory_read_bytes == 512 && report.memory_written_bytes == 512, "%lld bytes read, %lld written",
           static_cast<long long>(report.memory_read_bytes), static_cast<long long>(report.memory_written_bytes));
  }
  EXPECT(x.read_bytes() == 2 * 4 * 512, "without the cache: %lld", static_cast<long long>(x.read_bytes()));
}

}  // namespace
