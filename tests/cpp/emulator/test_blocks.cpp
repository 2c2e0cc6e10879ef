// Races of blocks in global memory.

#include <vector>

#include "findings.h"

namespace {

constexpr unsigned kBlocks = 4;

enum class Fence { kBefore, kAfter, kNone };  // what is written

// Blocks write what they have, and the last one to come adds all of it up. Steps may be left out, or come too early.
Report sum_of_blocks(Fence fence, bool ticket, bool backwards, int* sum) {
  const Buffer<int> parts("parts", kBlocks * 32), result("result", 1);
  const Buffer<unsigned> tickets("tickets", std::vector<unsigned>{0});
  const Report report = run({"sum", kBlocks, 32, 0, backwards}, [&] {
    if (fence == Fence::kBefore) __threadfence();
    __syncthreads();
    store(parts.address() + blockIdx.x * 32 + threadIdx.x, static_cast<int>(threadIdx.x));
    if (fence == Fence::kAfter) __threadfence();
    __syncthreads();
    bool last = false;
    if (ticket) {
      if (threadIdx.x == 0) last = atomicInc(tickets.address(), kBlocks - 1) == kBlocks - 1;
    } else {
      last = threadIdx.x == 0 && blockIdx.x == (backwards ? 0 : kBlocks - 1);
    }
    if (!last) return;
    int all = 0;
    for (unsigned i = 0; i < kBlocks * 32; ++i) all += load(parts.address() + i);
    store(result.address(), all);
  });
  *sum = result.values()[0];
  return report;
}

TEST(blocks_hand_over_by_tickets) {
  for (const bool backwards : {false, true}) {
    int sum = 0;
    expect_clean(sum_of_blocks(Fence::kAfter, true, backwards, &sum));
    EXPECT(sum == 496 * static_cast<int>(kBlocks), "%d", sum);
    for (const Report& report :
         {sum_of_blocks(Fence::kNone, true, backwards, &sum), sum_of_blocks(Fence::kBefore, true, backwards, &sum),
          sum_of_blocks(Fence::kAfter, false, backwards, &sum)}) {
      expect_only(report, Kind::kRace, 0, "of 'parts', which another block wrote");
    }
  }
}

TEST(blocks_that_write_to_one_place_are_told) {
  const Buffer<int> y("y", 96);
  const auto kernel = [&](unsigned apart) {
    return run({"tiles", 3, 32}, [&] { store(y.address() + blockIdx.x * apart + threadIdx.x, 1); });
  };
  expect_clean(kernel(32));
  expect_clean(kernel(32));  // a launch comes after those before it
  expect_only(kernel(31), Kind::kRace, 0, "writes 4 bytes at byte 124 of 'y', which another block wrote");
}

TEST(blocks_that_mix_atomic_changes_and_others_are_told) {
  const Buffer<float> sum("sum", std::vector<float>{0});
  expect_clean(run({"atomic", 3, 1}, [&] { atomicAdd(sum.address(), 1.0f); }));
  EXPECT(sum.values()[0] == 3, "%g", static_cast<double>(sum.values()[0]));
  expect_only(run({"zeroed", 3, 1}, [&] {
                if (blockIdx.x == 0) store(sum.address(), 0);
                atomicAdd(sum.address(), 1.0f);
              }),
              Kind::kRace, 0, "changes 4 bytes at byte 0 of 'sum'");
}

}  // namespace
