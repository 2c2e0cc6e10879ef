// Shared memory: races, and that barriers of either kind, and nothing else, prevent them.

#include "findings.h"

namespace {

TEST(shared_memory_is_poison_in_each_block) {
  const Report report = run({"stale", 2, 1}, [] {
    SHARED(int, array, 4);
    if (blockIdx.x == 0) store(array + 1, 7);
    if (blockIdx.x == 1) load(array + 1);
  });
  expect_only(report, Kind::kUnwritten, 0, "reads byte 4 of 'array', which no thread of the block has written");
  EXPECT(report.findings[0].block.x == 1, "block %u", report.findings[0].block.x);
  EXPECT(report.shared_bytes == 16, "%lld", static_cast<long long>(report.shared_bytes));
}

TEST(shared_memory_out_of_bounds_is_told) {
  Report report = run({"static", 1, 1}, [] {
    SHARED(float, first, 3);
    SHARED(float, second, 8);
    store(second, 0);
    store(first + 3, 0);
  });
  expect_only(report, Kind::kOutOfBounds, 0, "writes 4 bytes at byte 12 of 'first', which has 12");
  report = run({"dynamic", 1, 1, 64}, [] {
    DYNAMIC_SHARED(uint4, array);
    store(array + 3, uint4{});
    load(array + 4);
  });
  expect_only(report, Kind::kOutOfBounds, 0, "reads 16 bytes at byte 64 of 'dynamic shared memory', which has 64");
  EXPECT(report.shared_bytes == 64, "%lld", static_cast<long long>(report.shared_bytes));
  report = run({"none", 1, 1}, [] {
    DYNAMIC_SHARED(int, array);
    store(array, 0);
  });
  expect_only(report, Kind::kOutOfBounds, 0, "no memory of the device");
  report = run({"misaligned", 1, 1, 64}, [] {
    DYNAMIC_SHARED(half, array);
    store(reinterpret_cast<uint2*>(array + 2), uint2{});
  });
  expect_only(report, Kind::kMisaligned, 0, "writes 8 bytes at byte 4 of 'dynamic shared memory'");
}

// Two warps, of which thread 0 writes, thread `reader` reads, and `between` is done by all between.
template <typename Between>
Report write_then_read(unsigned reader, Between between) {
  return run({"write_then_read", 1, 64}, [&] {
    SHARED(int, array, 1);
    if (threadIdx.x == 0) store(array, 1);
    between();
    if (threadIdx.x == reader) load(array);
  });
}

template <typename Between>
Report read_then_write(unsigned writer, Between between) {
  return run({"read_then_write", 1, 64}, [&] {
    SHARED(int, array, 1);
    if (threadIdx.x == 0) store(array, 1);
    __syncthreads();
    load(array);
    between();
    if (threadIdx.x == writer) store(array, 2);
  });
}

TEST(shared_races_are_told) {
  expect_only(write_then_read(40, [] {}), Kind::kRace, 40, "reads byte 0 of 'array', which thread 0 accessed");
  expect_only(write_then_read(3, [] {}), Kind::kRace, 3, "reads byte 0 of 'array', which thread 0 accessed");
  // It is unwritten when the first thread comes, and has been read when the last one does.
  const Report report = run({"backwards", 1, 64}, [] {
    SHARED(int, array, 1);
    if (threadIdx.x == 63) store(array, 1);
    if (threadIdx.x == 0) load(array);
  });
  EXPECT(report.count(Kind::kUnwritten) == 1 && report.count(Kind::kRace) == 1, "%s", report.text().c_str());
  expect_only(read_then_write(0, [] {}), Kind::kRace, 1, "");
}

TEST(shared_races_between_writes_are_told) {
  const Report report = run({"writes", 1, 64}, [] {
    SHARED(unsigned char, array, 64);
    store(array + threadIdx.x, 0);  // neighbours are not in each other's way
    __syncthreads();
    store(array + threadIdx.x / 2, 1);
  });
  expect_only(report, Kind::kRace, 1, "writes byte 0 of 'array', which thread 0 accessed");
  EXPECT(report.findings[0].times == 32, "%lld", static_cast<long long>(report.findings[0].times));
}

TEST(shared_races_are_prevented_by_barriers_of_the_block) {
  expect_clean(write_then_read(40, [] { __syncthreads(); }));
  expect_clean(write_then_read(40, [] { __syncthreads_or(1); }));
  expect_clean(read_then_write(63, [] { __syncthreads(); }));
}

TEST(shared_races_are_prevented_by_barriers_of_a_warp_within_it) {
  expect_clean(write_then_read(3, [] { __syncwarp(); }));
  expect_only(write_then_read(40, [] { __syncwarp(); }), Kind::kRace, 40, "thread 0");
  // Of some lanes: of these alone.
  const auto first_half = [] {
    if (threadIdx.x < 16) __syncwarp(0xffff);
  };
  expect_clean(write_then_read(15, first_half));
  expect_only(write_then_read(16, first_half), Kind::kRace, 16, "thread 0");
  // From the first half to the second by way of lane 15.
  expect_clean(write_then_read(20, [=] {
    first_half();
    if (threadIdx.x >= 15 && threadIdx.x < 32) __syncwarp(0xffff8000u);
  }));
}

TEST(shared_races_are_not_prevented_by_shuffles) {
  expect_only(write_then_read(3, [] { __shfl_sync(~0u, 1, 0); }), Kind::kRace, 3, "thread 0");
  expect_only(write_then_read(3, [] { __any_sync(~0u, 1); }), Kind::kRace, 3, "thread 0");
}

TEST(shared_memory_read_by_all_may_be_written_after_a_barrier_of_the_warp) {
  const auto kernel = [](bool barrier) {
    return run({"reuse", 1, 32}, [=] {
      SHARED(int, array, 32);
      store(array + threadIdx.x, 1);
      for (int turn = 0; turn < 3; ++turn) {
        __syncwarp();
        load(array + (threadIdx.x + 1) % 32);
        if (barrier) __syncwarp();
        store(array + threadIdx.x, load(array + threadIdx.x));
      }
    });
  };
  expect_clean(kernel(true));
  // Lane 1 writes what lane 0 has just read, and lane 31 reads what lane 0 has just written.
  EXPECT(kernel(false).count(Kind::kRace) == 2, "%s", kernel(false).text().c_str());
}

TEST(shared_memory_is_changed_by_atomics_at_once) {
  const Buffer<int> result("result", 1);
  const auto kernel = [&](bool barrier) {
    return run({"histogram", 1, 64}, [&] {
      SHARED(int, count, 1);
      if (threadIdx.x == 0) store(count, 0);
      __syncthreads();
      atomicAdd(count, 2);
      if (barrier) __syncthreads();
      if (threadIdx.x == 63) store(result.address(), load(count));
    });
  };
  expect_clean(kernel(true));
  EXPECT(result.values()[0] == 128, "%d", result.values()[0]);
  expect_only(kernel(false), Kind::kRace, 63, "reads byte 0 of 'count', which several threads accessed");
}

}  // namespace
