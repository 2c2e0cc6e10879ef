// Asynchronous copies: they land when they are waited for, and not before.

#include <string>
#include <vector>

#include "findings.h"

namespace {

using eqnet::cuda::cp_async;
using eqnet::cuda::cp_async_commit;
using eqnet::cuda::cp_async_wait;

std::vector<int> counted(int count) {
  std::vector<int> values;
  for (int i = 0; i < count; ++i) values.push_back(i);
  return values;
}

// Each of 64 threads copies 16 bytes, and after `wait` those of one warp read what the other one copied.
template <typename Wait>
Report copy_and_read(const Buffer<int>& result, unsigned reading_warp, Wait wait) {
  const Buffer<const int> x("x", counted(256));
  return run({"copy", 1, 64}, [&] {
    SHARED(int, array, 256);
    cp_async<16>(array + threadIdx.x * 4, x.address() + threadIdx.x * 4);
    cp_async_commit();
    wait();
    if (threadIdx.x / 32 == reading_warp) {
      store(result.address() + threadIdx.x, load(array + (threadIdx.x * 4 + 128) % 256));
    }
    cp_async_wait<0>();
  });
}

TEST(copies_land_when_they_are_waited_for) {
  const Buffer<int> result("result", 64);
  for (const unsigned warp : {0u, 1u}) {
    const Report report = copy_and_read(result, warp, [] {
      cp_async_wait<0>();
      __syncthreads();
    });
    expect_clean(report);
    EXPECT(report.traffic.read_sectors == 32 && report.traffic.uncoalesced() == 0, "%lld",
           static_cast<long long>(report.traffic.read_sectors));
  }
  for (int i = 0; i < 64; ++i) {
    const int got = result.values()[static_cast<std::size_t>(i)];
    EXPECT(got == (i * 4 + 128) % 256, "%d: %d", i, got);
  }
}

TEST(copies_that_are_not_waited_for_are_told) {
  const Buffer<int> result("result", 64);
  expect_only(copy_and_read(result, 0, [] { __syncthreads(); }), Kind::kUnfinished, 0,
              "reads byte 512 of 'array', to which a copy goes for which thread 32 has not waited");
  EXPECT(result.values()[0] == -1, "%d", result.values()[0]);  // poison
  // One group too many is left.
  expect_only(copy_and_read(result, 0, [] {
                cp_async_wait<1>();
                __syncthreads();
              }),
              Kind::kUnfinished, 0, "thread 32 has not waited");
}

TEST(copies_that_are_waited_for_without_a_barrier_are_told) {
  const Buffer<int> result("result", 64);
  expect_only(copy_and_read(result, 1, [] { cp_async_wait<0>(); }), Kind::kRace, 32,
              "reads byte 0 of 'array', which thread 0 accessed");
}

TEST(copies_in_no_group_are_not_waited_for) {
  const Buffer<const int> x("x", counted(4));
  expect_only(run({"uncommitted", 1, 1}, [&] {
                SHARED(int, array, 4);
                cp_async<4>(array, x.address());
                cp_async_wait<0>();
              }),
              Kind::kUnfinished, 0, "returns and has not waited");
}

TEST(copies_are_waited_for_in_their_order) {
  const Buffer<const int> x("x", counted(8));
  const auto kernel = [&](int read) {
    return run({"groups", 1, 1}, [&] {
      SHARED(int, array, 8);
      for (int group = 0; group < 4; ++group) {
        cp_async<8>(array + group * 2, x.address() + group * 2);
        cp_async_commit();
      }
      cp_async_wait<2>();
      load(array + read);
      cp_async_wait<0>();
    });
  };
  expect_clean(kernel(0));
  expect_clean(kernel(3));
  expect_only(kernel(4), Kind::kUnfinished, 0, "reads byte 16");
}

TEST(copies_to_what_is_still_read_are_told) {
  // A ring of two stages whose second barrier is missing.
  const Buffer<const int> x("x", counted(512));
  const auto kernel = [&](bool barrier) {
    return run({"ring", 1, 64}, [&] {
      SHARED(int, ring, 2 * 64);
      const unsigned thread = threadIdx.x;
      cp_async<4>(ring + thread, x.address() + thread);
      cp_async_commit();
      for (unsigned step = 0; step < 4; ++step) {
        cp_async<4>(ring + (step + 1) % 2 * 64 + thread, x.address() + (step + 1) * 64 + thread);
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();
        load(ring + step % 2 * 64 + 63 - thread);
        if (barrier) __syncthreads();
      }
      cp_async_wait<0>();
    });
  };
  expect_clean(kernel(true));
  const std::string text = kernel(false).text();
  EXPECT(text.find("race in ring, block (0, 0, 0), thread (32, 0, 0): copies to byte 128 of 'ring'") != text.npos, "%s",
         text.c_str());
}

TEST(copies_fill_with_zeros) {
  const Buffer<const half> x("x", std::vector<half>(5, half{0x3c00}));
  const Buffer<uint4> result("result", 2);
  expect_clean(run({"fill", 1, 1}, [&] {
    SHARED(uint4, array, 2);
    cp_async<16>(array, x.address(), 10);
    cp_async<16>(array + 1, x.address() + 1000, 0);  // reads nothing, wherever that is
    cp_async_commit();
    cp_async_wait<0>();
    for (int i = 0; i < 2; ++i) store(result.address() + i, load(array + i));
  }));
  const uint4 first = result.values()[0], second = result.values()[1];
  EXPECT(first.x == 0x3c003c00 && first.y == 0x3c003c00 && first.z == 0x3c00 && first.w == 0, "%x", first.z);
  EXPECT((second.x | second.y | second.z | second.w) == 0, "%x", second.x);
}

TEST(copies_are_checked) {
  const Buffer<const int> x("x", counted(16));
  const Buffer<int> unwritten("unwritten", 4);
  const auto copy = [&](int to, const int* from, int valid) {
    return run({"copy", 1, 1}, [=] {
      SHARED(int, array, 16);
      cp_async<16>(array + to, from, valid);
      cp_async_commit();
      cp_async_wait<0>();
    });
  };
  expect_clean(copy(12, x.address() + 12, 16));
  expect_only(copy(13, x.address(), 16), Kind::kOutOfBounds, 0, "copies 16 bytes at byte 52 of 'array'");
  expect_only(copy(1, x.address(), 16), Kind::kMisaligned, 0, "copies 16 bytes at byte 4 of 'array'");
  expect_only(copy(0, x.address() + 1, 16), Kind::kMisaligned, 0, "copies 16 bytes at byte 4 of 'x'");
  expect_only(copy(0, x.address() + 16, 16), Kind::kOutOfBounds, 0, "copies 16 bytes at byte 64 of 'x'");
  expect_only(copy(0, unwritten.address(), 16), Kind::kUnwritten, 0, "of 'unwritten'");
  expect_only(copy(0, x.address(), 17), Kind::kArgument, 0, "at most as much as its size");
  expect_only(run({"backwards", 1, 1}, [&] {
                SHARED(int, array, 16);
                cp_async<4>(unwritten.address(), array);
              }),
              Kind::kArgument, 0, "from global to shared memory");
}

}  // namespace
