// Barriers, shuffles and votes: what they give, and that each way to get them wrong is told.

#include <cstdint>
#include <vector>

#include "findings.h"

namespace {

std::vector<int> integers(std::size_t count) { return std::vector<int>(count, -1); }

TEST(barriers_index_threads_and_blocks) {
  const Buffer<int> seen("seen", 2 * 3 * 2 * 4 * 5 * 2);
  const Report report = run({"indices", dim3(2, 3, 2), dim3(4, 5, 2)}, [&] {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const unsigned number = block * blockDim.x * blockDim.y * blockDim.z + thread;
    store(seen.address() + number, static_cast<int>(number));
  });
  expect_clean(report);
  const std::vector<int> values = seen.values();
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT(values[i] == static_cast<int>(i), "%zu", i);
}

TEST(barriers_order_a_block) {
  // Each thread passes on what its neighbour wrote, round the block, as often as there are threads.
  const Buffer<int> result("result", integers(100));
  const Report report = run({"round", 1, 100}, [&] {
    SHARED(int, ring, 100);
    store(ring + threadIdx.x, static_cast<int>(threadIdx.x));
    for (int turn = 0; turn < 7; ++turn) {
      __syncthreads();
      const int next = load(ring + (threadIdx.x + 1) % 100);
      __syncthreads();
      store(ring + threadIdx.x, next);
    }
    store(result.address() + threadIdx.x, load(ring + threadIdx.x));
  });
  expect_clean(report);
  EXPECT(report.barriers == 14, "%lld", static_cast<long long>(report.barriers));
  const std::vector<int> values = result.values();
  for (int i = 0; i < 100; ++i) EXPECT(values[static_cast<std::size_t>(i)] == (i + 7) % 100, "%d", i);
}

TEST(barriers_count_votes_of_a_block) {
  const Buffer<int> result("result", integers(6));
  const Report report = run({"votes", 1, 70}, [&] {
    const int count = __syncthreads_count(threadIdx.x % 3 == 0);
    const int any = __syncthreads_or(threadIdx.x == 69), none = __syncthreads_or(0);
    const int all = __syncthreads_and(threadIdx.x < 70), most = __syncthreads_and(threadIdx.x < 69);
    if (threadIdx.x != 5) return;
    const int got[] = {count, any, none, all, most};
    for (int i = 0; i < 5; ++i) store(result.address() + i, got[i]);
  });
  expect_clean(report);
  const std::vector<int> want{24, 1, 0, 1, 0, -1};
  EXPECT(result.values() == want, "count %d", result.values()[0]);
}

// What one expression gives in all lanes of a warp.
template <typename Value>
std::vector<int> in_lanes(Value value) {
  const Buffer<int> result("result", integers(32));
  const Report report =
      run({"lanes", 1, 32}, [&] { store(result.address() + threadIdx.x, value(static_cast<int>(threadIdx.x))); });
  expect_clean(report);
  return result.values();
}

TEST(barriers_shuffle) {
  const auto check = [](const std::vector<int>& got, const char* what, int (*want)(int)) {
    for (int i = 0; i < 32; ++i) {
      EXPECT(got[static_cast<std::size_t>(i)] == want(i), "%s, lane %d: %d", what, i, got[static_cast<std::size_t>(i)]);
    }
  };
  check(in_lanes([](int i) { return __shfl_sync(~0u, 10 * i, i + 3); }), "any",
        [](int i) { return (i + 3) % 32 * 10; });
  check(in_lanes([](int i) { return __shfl_sync(~0u, i, 1, 8); }), "parts", [](int i) { return i / 8 * 8 + 1; });
  check(in_lanes([](int i) { return __shfl_up_sync(~0u, i, 5); }), "up", [](int i) { return i < 5 ? i : i - 5; });
  check(in_lanes([](int i) { return __shfl_up_sync(~0u, i, 2, 4); }), "up in parts",
        [](int i) { return i % 4 < 2 ? i : i - 2; });
  check(in_lanes([](int i) { return __shfl_down_sync(~0u, i, 9); }), "down", [](int i) { return i < 23 ? i + 9 : i; });
  check(in_lanes([](int i) { return __shfl_down_sync(~0u, i, 1, 4); }), "down in parts",
        [](int i) { return i % 4 == 3 ? i : i + 1; });
  check(in_lanes([](int i) { return __shfl_xor_sync(~0u, i, 21); }), "xor", [](int i) { return i ^ 21; });
  check(in_lanes([](int i) { return __shfl_xor_sync(~0u, i, 8, 8); }), "xor beyond the part",
        [](int i) { return i & 8 ? i ^ 8 : i; });
  check(in_lanes([](int i) { return static_cast<int>(__shfl_sync(~0u, std::uint64_t(i) << 40, 7) >> 40); }), "wide",
        [](int) { return 7; });
}

TEST(barriers_vote) {
  const auto got = in_lanes([](int i) { return static_cast<int>(__ballot_sync(~0u, i % 5 == 0)); });
  EXPECT(got[31] == 0x42108421, "%x", got[31]);
  EXPECT(in_lanes([](int i) { return __any_sync(~0u, i == 30); })[0] == 1, "any");
  EXPECT(in_lanes([](int) { return __any_sync(~0u, 0); })[0] == 0, "none");
  EXPECT(in_lanes([](int i) { return __all_sync(~0u, i < 32); })[9] == 1, "all");
  EXPECT(in_lanes([](int i) { return __all_sync(~0u, i != 30); })[9] == 0, "all but one");
}

TEST(barriers_let_lanes_diverge) {
  // Halves of the warp go ways of different lengths, each with shuffles of its own, and meet again.
  const auto got = in_lanes([](int i) {
    int sum = i;
    if (i < 16) {
      for (int lanes = 8; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffu, sum, lanes);
    } else {
      sum = __shfl_sync(0xffff0000u, sum, 20);
    }
    __syncwarp();
    return sum + __shfl_sync(~0u, sum, 31);
  });
  EXPECT(got[3] == 120 + 20 && got[31] == 40, "%d, %d", got[3], got[31]);
}

TEST(barriers_missed_by_some_threads_are_told) {
  Report report = run({"exit", 1, 64}, [] {
    if (threadIdx.x == 40) return;
    __syncthreads();
  });
  expect_only(report, Kind::kDivergence, 0, "__syncthreads, but thread 40 of the block has returned");
  report = run({"branches", 2, 64}, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
  expect_only(report, Kind::kDivergence, 0, "waits in __syncthreads without end: thread 32 waits in __syncthreads");
  EXPECT(report.findings[0].block.x == 0 && report.findings[0].kernel == "branches", "%s", report.text().c_str());
  report = run({"mixed", 1, 32}, [] {
    if (threadIdx.x == 3) {
      __syncthreads();
    } else {
      __syncwarp();
    }
  });
  expect_only(report, Kind::kDivergence, 0, "waits in __syncwarp without end: thread 3 waits in __syncthreads");
}

TEST(barriers_of_a_warp_missed_by_some_lanes_are_told) {
  Report report = run({"exit", 1, 32}, [] {
    if (threadIdx.x == 9) return;
    __shfl_sync(~0u, 1, 0);
  });
  expect_only(report, Kind::kDivergence, 0, "__shfl_sync names lane 9");
  report = run({"masks", 1, 32}, [] { __syncwarp(threadIdx.x < 16 ? 0xffffu : ~0u); });
  expect_only(report, Kind::kDivergence, 16, "__syncwarp names lane 0, which has returned");
  report = run({"operations", 1, 32}, [] {
    if (threadIdx.x % 2) {
      __any_sync(~0u, 1);
    } else {
      __all_sync(~0u, 1);
    }
  });
  expect_only(report, Kind::kDivergence, 0, "thread 1 waits in __any_sync");
  report = run({"small", 1, 20}, [] { __syncwarp(); });
  expect_only(report, Kind::kDivergence, 0, "names lane 20, which has returned or does not exist");
  report = run({"other", 1, 32}, [] { __syncwarp(1); });
  expect_only(report, Kind::kArgument, 1, "__syncwarp by lane 1");
  EXPECT(report.findings[0].times == 31, "%lld", static_cast<long long>(report.findings[0].times));
  report = run({"source", 1, 32}, [] {
    if (threadIdx.x < 8) __shfl_sync(0xffu, 1, 8);
  });
  expect_only(report, Kind::kDivergence, 0, "from lane 8, which does not take part");
}

TEST(barriers_of_a_launch_after_one_that_hung) {
  run({"hung", 1, 1024}, [] {
    if (threadIdx.x > 0) __syncthreads();
    __syncwarp(2);
  });
  expect_clean(run({"well", 1, 1024}, [] { __syncthreads(); }));
}

}  // namespace
