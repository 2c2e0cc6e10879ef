// Global memory: what is refused, what is told, and what outputs hold before they are written.

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "findings.h"

namespace {

TEST(memory_holds_what_is_written) {
  const Buffer<const std::uint16_t> input("input", std::vector<std::uint16_t>{1, 2, 3, 4, 5, 6, 7, 8});
  const Buffer<std::uint16_t> output("output", 8);
  expect_clean(run({"copy", 1, 1}, [&] {
    store(reinterpret_cast<uint4*>(output.address()), load(reinterpret_cast<const uint4*>(input.address())));
  }));
  EXPECT(output.values() == input.values(), "%d", output.values()[0]);
  EXPECT(output.unwritten_bytes() == 0, "%zu", output.unwritten_bytes());
}

TEST(memory_of_outputs_is_poison) {
  const Buffer<float> output("output", 4);
  expect_clean(run({"some", 1, 1}, [&] { store(output.address() + 1, 5); }));
  const std::vector<float> values = output.values();
  EXPECT(values[0] != values[0] && values[1] == 5, "%g %g", values[0], values[1]);
  EXPECT(output.unwritten_bytes() == 12, "%zu", output.unwritten_bytes());
}

TEST(memory_out_of_bounds_is_told) {
  const Buffer<const int> x("x", std::vector<int>(33));
  const Buffer<int> y("y", 33);
  Report report = run({"read", 1, 64}, [&] { load(x.address() + threadIdx.x); });
  expect_only(report, Kind::kOutOfBounds, 33, "reads 4 bytes at byte 132 of 'x', which has 132");
  EXPECT(report.findings[0].times == 31, "%lld", static_cast<long long>(report.findings[0].times));
  EXPECT(report.findings[0].site.line == __LINE__ - 3, "line %d", report.findings[0].site.line);
  EXPECT(report.text().find("test_memory.cpp:") != std::string::npos, "%s", report.text().c_str());

  expect_only(run({"write", 1, 64}, [&] { store(y.address() + threadIdx.x, 1); }), Kind::kOutOfBounds, 33,
              "writes 4 bytes at byte 132 of 'y', which has 132");
  // A vector that begins within the buffer and ends outside.
  expect_only(run({"wide", 1, 1}, [&] { load(reinterpret_cast<const uint4*>(x.address()) + 8); }),
              Kind::kOutOfBounds, 0, "reads 16 bytes at byte 128 of 'x', which has 132");
  expect_only(run({"before", 1, 1}, [&] { load(x.address() - 1); }), Kind::kOutOfBounds, 0, "no memory of the device");
  const int local = 0;
  expect_only(run({"host", 1, 1}, [&] { load(&local); }), Kind::kOutOfBounds, 0, "no memory of the device");
  expect_only(run({"atomic", 1, 1}, [&] { atomicAdd(y.address() + 33, 1); }), Kind::kOutOfBounds, 0, "changes 4 bytes");
}

TEST(memory_that_is_released_is_out_of_bounds) {
  const int* address = nullptr;
  const Buffer<const int> kept("kept", std::vector<int>(1));
  {
    const Buffer<const int> released("released", std::vector<int>(1));
    address = released.address();
  }
  expect_only(run({"late", 1, 1}, [&] { load(address); }), Kind::kOutOfBounds, 0, "of 'kept'");
}

TEST(memory_misaligned_is_told) {
  const Buffer<const unsigned char> x("x", std::vector<unsigned char>(64));
  const Buffer<unsigned char> y("y", std::vector<unsigned char>(64));
  const auto at = [&](int byte) { return reinterpret_cast<std::uintptr_t>(x.address()) + static_cast<unsigned>(byte); };
  expect_only(run({"read", 1, 1}, [&] { load(reinterpret_cast<const uint4*>(at(8))); }), Kind::kMisaligned, 0,
              "reads 16 bytes at byte 8 of 'x', which is no multiple of 16");
  expect_only(run({"read", 1, 1}, [&] { load(reinterpret_cast<const half2*>(at(6))); }), Kind::kMisaligned, 0,
              "reads 4 bytes at byte 6");
  expect_clean(run({"read", 1, 1}, [&] { load(reinterpret_cast<const uint2*>(at(8))); }));
  expect_only(run({"write", 1, 1}, [&] { store(reinterpret_cast<uint2*>(y.address() + 4), uint2{}); }),
              Kind::kMisaligned, 0, "writes 8 bytes at byte 4 of 'y'");
}

TEST(memory_of_inputs_is_not_written) {
  const Buffer<const int> x("x", std::vector<int>{1, 2});
  expect_only(run({"write", 1, 1}, [&] { store(const_cast<int*>(x.address()), 3); }), Kind::kReadOnly, 0,
              "writes to 'x'");
  EXPECT(x.values()[0] == 1, "%d", x.values()[0]);
}

TEST(memory_unwritten_is_told) {
  const Buffer<float> y("y", 8);
  float got = 0;
  const Report report = run({"read", 1, 1}, [&] {
    store(y.address() + 4, 0);
    got = load(reinterpret_cast<const float4*>(y.address()) + 1).y;
  });
  expect_only(report, Kind::kUnwritten, 0, "reads 16 bytes at byte 16 of 'y', of which byte 20 was never written");
  EXPECT(got != got, "%g", got);
  expect_only(run({"add", 1, 1}, [&] { atomicAdd(y.address(), 1.0f); }), Kind::kUnwritten, 0, "changes 4 bytes");
}

TEST(memory_cannot_be_reached_past_the_checks) {
  const Buffer<const int> x("x", std::vector<int>(1));
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    run({"follow", 1, 1}, [&] { _exit(*static_cast<const volatile int*>(x.address())); });
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "%d", status);
}

TEST(memory_launches_that_no_gpu_takes_are_refused) {
  for (const unsigned threads : {0u, 1025u}) {
    bool refused = false;
    try {
      run({"large", 1, threads}, [] {});
    } catch (const std::invalid_argument& error) {
      refused = std::string(error.what()).find(std::to_string(threads) + " threads") != std::string::npos;
    }
    EXPECT(refused, "%u", threads);
  }
}

TEST(memory_is_changed_by_atomics) {
  const Buffer<float> sum("sum", std::vector<float>{0.5f});
  const Buffer<int> integers("integers", std::vector<int>{5, 5, 5, 7});
  const Buffer<half2> halves("halves", std::vector<half2>{__floats2half2_rn(1, 2)});
  const Buffer<unsigned> ticket("ticket", std::vector<unsigned>{0});
  const Buffer<int> last("last", 1);
  for (const bool backwards : {false, true}) {
    expect_clean(run({"add", 2, 40, 0, backwards}, [&] {
      atomicAdd(sum.address(), 0.25f);
      atomicAdd(integers.address(), static_cast<int>(threadIdx.x));
      atomicMax(integers.address() + 1, static_cast<int>(threadIdx.x));
      atomicCAS(integers.address() + 2, 5, 6);
      if (threadIdx.x == 0) atomicAdd(halves.address(), __floats2half2_rn(0.5f, -3));
      // The last block to come knows it.
      if (threadIdx.x == 0 && atomicInc(ticket.address(), 1) == 1) store(last.address(), static_cast<int>(blockIdx.x));
    }));
    EXPECT(last.values()[0] == (backwards ? 0 : 1), "%d", last.values()[0]);
  }
  EXPECT(sum.values()[0] == 40.5f, "%g", sum.values()[0]);
  EXPECT((integers.values() == std::vector<int>{5 + 4 * 780, 39, 6, 7}), "%d", integers.values()[0]);
  EXPECT(__low2float(halves.values()[0]) == 3 && __high2float(halves.values()[0]) == -10, "halves");
  EXPECT(ticket.values()[0] == 0, "%u", ticket.values()[0]);
}

}  // namespace
