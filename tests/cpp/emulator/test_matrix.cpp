// ldmatrix and mma: fragments against literal matrices, written down from the tables of the PTX manual, and products
// against those of the whole matrices.

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "findings.h"

namespace {

using eqnet::cuda::ldmatrix;
using eqnet::cuda::ldmatrix_transposed;
using eqnet::cuda::mma;

// Which lane holds each number of the 16x16 matrix a, and as which of its eight.
constexpr const char* kA =
    "0:0  0:1  1:0  1:1  2:0  2:1  3:0  3:1  0:4  0:5  1:4  1:5  2:4  2:5  3:4  3:5 "
    "4:0  4:1  5:0  5:1  6:0  6:1  7:0  7:1  4:4  4:5  5:4  5:5  6:4  6:5  7:4  7:5 "
    "8:0  8:1  9:0  9:1  10:0 10:1 11:0 11:1 8:4  8:5  9:4  9:5  10:4 10:5 11:4 11:5 "
    "12:0 12:1 13:0 13:1 14:0 14:1 15:0 15:1 12:4 12:5 13:4 13:5 14:4 14:5 15:4 15:5 "
    "16:0 16:1 17:0 17:1 18:0 18:1 19:0 19:1 16:4 16:5 17:4 17:5 18:4 18:5 19:4 19:5 "
    "20:0 20:1 21:0 21:1 22:0 22:1 23:0 23:1 20:4 20:5 21:4 21:5 22:4 22:5 23:4 23:5 "
    "24:0 24:1 25:0 25:1 26:0 26:1 27:0 27:1 24:4 24:5 25:4 25:5 26:4 26:5 27:4 27:5 "
    "28:0 28:1 29:0 29:1 30:0 30:1 31:0 31:1 28:4 28:5 29:4 29:5 30:4 30:5 31:4 31:5 "
    "0:2  0:3  1:2  1:3  2:2  2:3  3:2  3:3  0:6  0:7  1:6  1:7  2:6  2:7  3:6  3:7 "
    "4:2  4:3  5:2  5:3  6:2  6:3  7:2  7:3  4:6  4:7  5:6  5:7  6:6  6:7  7:6  7:7 "
    "8:2  8:3  9:2  9:3  10:2 10:3 11:2 11:3 8:6  8:7  9:6  9:7  10:6 10:7 11:6 11:7 "
    "12:2 12:3 13:2 13:3 14:2 14:3 15:2 15:3 12:6 12:7 13:6 13:7 14:6 14:7 15:6 15:7 "
    "16:2 16:3 17:2 17:3 18:2 18:3 19:2 19:3 16:6 16:7 17:6 17:7 18:6 18:7 19:6 19:7 "
    "20:2 20:3 21:2 21:3 22:2 22:3 23:2 23:3 20:6 20:7 21:6 21:7 22:6 22:7 23:6 23:7 "
    "24:2 24:3 25:2 25:3 26:2 26:3 27:2 27:3 24:6 24:7 25:6 25:7 26:6 26:7 27:6 27:7 "
    "28:2 28:3 29:2 29:3 30:2 30:3 31:2 31:3 28:6 28:7 29:6 29:7 30:6 30:7 31:6 31:7 ";

// The same of the 16x8 matrix b, of whose columns each is held by four lanes.
constexpr const char* kB =
    "0:0 4:0 8:0  12:0 16:0 20:0 24:0 28:0 "
    "0:1 4:1 8:1  12:1 16:1 20:1 24:1 28:1 "
    "1:0 5:0 9:0  13:0 17:0 21:0 25:0 29:0 "
    "1:1 5:1 9:1  13:1 17:1 21:1 25:1 29:1 "
    "2:0 6:0 10:0 14:0 18:0 22:0 26:0 30:0 "
    "2:1 6:1 10:1 14:1 18:1 22:1 26:1 30:1 "
    "3:0 7:0 11:0 15:0 19:0 23:0 27:0 31:0 "
    "3:1 7:1 11:1 15:1 19:1 23:1 27:1 31:1 "
    "0:2 4:2 8:2  12:2 16:2 20:2 24:2 28:2 "
    "0:3 4:3 8:3  12:3 16:3 20:3 24:3 28:3 "
    "1:2 5:2 9:2  13:2 17:2 21:2 25:2 29:2 "
    "1:3 5:3 9:3  13:3 17:3 21:3 25:3 29:3 "
    "2:2 6:2 10:2 14:2 18:2 22:2 26:2 30:2 "
    "2:3 6:3 10:3 14:3 18:3 22:3 26:3 30:3 "
    "3:2 7:2 11:2 15:2 19:2 23:2 27:2 31:2 "
    "3:3 7:3 11:3 15:3 19:3 23:3 27:3 31:3 ";

// The same of the 16x8 accumulators.
constexpr const char* kAccumulators =
    "0:0  0:1  1:0  1:1  2:0  2:1  3:0  3:1 "
    "4:0  4:1  5:0  5:1  6:0  6:1  7:0  7:1 "
    "8:0  8:1  9:0  9:1  10:0 10:1 11:0 11:1 "
    "12:0 12:1 13:0 13:1 14:0 14:1 15:0 15:1 "
    "16:0 16:1 17:0 17:1 18:0 18:1 19:0 19:1 "
    "20:0 20:1 21:0 21:1 22:0 22:1 23:0 23:1 "
    "24:0 24:1 25:0 25:1 26:0 26:1 27:0 27:1 "
    "28:0 28:1 29:0 29:1 30:0 30:1 31:0 31:1 "
    "0:2  0:3  1:2  1:3  2:2  2:3  3:2  3:3 "
    "4:2  4:3  5:2  5:3  6:2  6:3  7:2  7:3 "
    "8:2  8:3  9:2  9:3  10:2 10:3 11:2 11:3 "
    "12:2 12:3 13:2 13:3 14:2 14:3 15:2 15:3 "
    "16:2 16:3 17:2 17:3 18:2 18:3 19:2 19:3 "
    "20:2 20:3 21:2 21:3 22:2 22:3 23:2 23:3 "
    "24:2 24:3 25:2 25:3 26:2 26:3 27:2 27:3 "
    "28:2 28:3 29:2 29:3 30:2 30:3 31:2 31:3 ";

struct Holder {
  int lane, index;
};

// Of a matrix, row by row.
std::vector<Holder> holders(const char* table) {
  std::vector<Holder> all;
  int length = 0;
  for (Holder one{}; std::sscanf(table, " %d:%d%n", &one.lane, &one.index, &length) == 2; table += length) {
    all.push_back(one);
  }
  return all;
}

// The numbers of a matrix as lanes hold them, two in a register.
template <typename T>
std::vector<unsigned> spread(const std::vector<T>& matrix, int cols, const std::vector<Holder>& held, int held_cols,
                             int registers) {
  std::vector<unsigned> all(static_cast<std::size_t>(32 * registers));
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    const std::size_t row = i / static_cast<std::size_t>(cols), col = i % static_cast<std::size_t>(cols);
    const Holder holder = held[row * static_cast<std::size_t>(held_cols) + col];
    all[static_cast<std::size_t>(holder.lane * registers + holder.index / 2)] |=
        static_cast<unsigned>(matrix[i].bits) << (16 * (holder.index % 2));
  }
  return all;
}

// One mma of random matrices, small integers so that every order of sums gives the same, against their product.
template <typename T, int kDepth>
void check_product() {
  constexpr int kRegisters = kDepth / 4;
  std::mt19937 random(kDepth);
  const auto draw = [&](int count) {
    std::vector<T> values;
    for (int i = 0; i < count; ++i) values.push_back(narrow<T>(static_cast<int>(random() % 33) - 16));
    return values;
  };
  const std::vector<T> a = draw(16 * kDepth), b = draw(kDepth * 8);
  const Buffer<const unsigned> a_registers("a", spread(a, kDepth, holders(kA), 16, kRegisters));
  const Buffer<const unsigned> b_registers("b", spread(b, 8, holders(kB), 8, kRegisters / 2));
  const Buffer<float> result("result", 32 * 4);
  const Report report = run({"product", 1, 32}, [&] {
    const unsigned lane = threadIdx.x;
    unsigned x[kRegisters], y[kRegisters / 2];
    for (unsigned i = 0; i < kRegisters; ++i) x[i] = load(a_registers.address() + lane * kRegisters + i);
    for (unsigned i = 0; i < kRegisters / 2; ++i) y[i] = load(b_registers.address() + lane * (kRegisters / 2) + i);
    float sums[4];
    for (unsigned i = 0; i < 4; ++i) sums[i] = static_cast<float>(lane * 4 + i);
    mma<T>(sums, x, y);
    mma<T>(sums, x, y);
    for (unsigned i = 0; i < 4; ++i) store(result.address() + lane * 4 + i, sums[i]);
  });
  expect_clean(report);
  EXPECT(report.matrix_flops == 2 * 2 * 16 * 8 * kDepth, "%lld", static_cast<long long>(report.matrix_flops));
  const std::vector<float> got = result.values();
  const std::vector<Holder> held = holders(kAccumulators);
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t col = 0; col < 8; ++col) {
      const Holder holder = held[row * 8 + col];
      const int number = holder.lane * 4 + holder.index;
      float want = static_cast<float>(number);
      for (std::size_t k = 0; k < kDepth; ++k) want += 2 * widen(a[row * kDepth + k]) * widen(b[k * 8 + col]);
      EXPECT(got[static_cast<std::size_t>(number)] == want, "(%zu, %zu): %g, not %g", row, col,
             static_cast<double>(got[static_cast<std::size_t>(number)]), static_cast<double>(want));
    }
  }
}

TEST(matrix_tables_hold_every_number_once) {
  const auto check = [](const char* table, int count, int of_lane, const char* what) {
    const std::vector<Holder> held = holders(table);
    std::vector<int> times(static_cast<std::size_t>(32 * of_lane));
    for (const Holder& one : held) ++times[static_cast<std::size_t>(one.lane * of_lane + one.index)];
    EXPECT(static_cast<int>(held.size()) == count && times == std::vector<int>(times.size(), 1), "%s", what);
  };
  check(kA, 256, 8, "a");
  check(kB, 128, 4, "b");
  check(kAccumulators, 128, 4, "accumulators");
}

TEST(matrix_products) {
  check_product<half, 16>();
  check_product<half, 8>();
  check_product<__nv_bfloat16, 16>();
  check_product<__nv_bfloat16, 8>();
}

// Four matrices of 8x8 in shared memory, number 64·m + 8·row + column each, as registers of lanes.
template <int kCount, bool kTransposed>
std::vector<unsigned> loaded(Report& report) {
  const Buffer<unsigned> result("result", std::vector<unsigned>(32 * kCount));
  report = run({"ldmatrix", 1, 32}, [&] {
    SHARED(std::uint16_t, tiles, 4 * 64);
    const unsigned lane = threadIdx.x;
    for (unsigned i = 0; i < 8; ++i) store(tiles + lane * 8 + i, static_cast<std::uint16_t>(lane * 8 + i));
    __syncwarp();
    unsigned registers[kCount];
    if constexpr (kTransposed) {
      ldmatrix_transposed(registers, tiles + lane * 8);
    } else {
      ldmatrix(registers, tiles + lane * 8);
    }
    for (int i = 0; i < kCount; ++i) store(result.address() + lane * kCount + static_cast<unsigned>(i), registers[i]);
  });
  expect_clean(report);
  return result.values();
}

TEST(matrix_loads) {
  Report report;
  // Lane 0 has the first two numbers of row 0, lane 1 the next two, lane 4 those of row 1.
  const std::vector<unsigned> one = loaded<1, false>(report);
  EXPECT(one[0] == 0x00010000 && one[1] == 0x00030002 && one[4] == 0x00090008 && one[31] == 0x003f003e, "%x", one[1]);
  const std::vector<unsigned> two = loaded<2, false>(report);
  EXPECT(two[1] == 0x00410040 && two[2 * 31 + 1] == 0x007f007e, "%x", two[1]);
  const std::vector<unsigned> four = loaded<4, false>(report);
  EXPECT(four[2] == 0x00810080 && four[4 * 31 + 3] == 0x00ff00fe && four[4 * 5] == 0x000b000a, "%x", four[2]);
  // Lane 0 has the first two numbers of column 0, lane 1 the next two, lane 4 those of column 1.
  const std::vector<unsigned> transposed = loaded<1, true>(report);
  EXPECT(transposed[0] == 0x00080000 && transposed[1] == 0x00180010 && transposed[4] == 0x00090001 &&
             transposed[31] == 0x003f0037,
         "%x", transposed[1]);
  const std::vector<unsigned> all = loaded<4, true>(report);
  EXPECT(all[3] == 0x00c800c0 && all[4 * 31 + 1] == 0x007f0077, "%x", all[3]);
}

// Loads four matrices whose rows are so many numbers apart.
Report load_rows(int apart, int offset = 0) {
  return run({"rows", 1, 32}, [=] {
    SHARED(half, tile, 4096);
    for (int i = 0; i < 128; ++i) store(tile + static_cast<int>(threadIdx.x) * 128 + i, half{});
    __syncwarp();
    unsigned registers[4];
    ldmatrix(registers, tile + static_cast<int>(threadIdx.x) * apart + offset);
  });
}

TEST(matrix_loads_are_checked) {
  const auto conflicts = [](int apart) {
    const Report report = load_rows(apart);
    expect_clean(report);
    return report.sites.back().traffic.bank_conflicts;
  };
  EXPECT(conflicts(8) == 0 && conflicts(72) == 0, "rows of 16 bytes, and padded rows");
  EXPECT(conflicts(64) == 28, "%lld", static_cast<long long>(conflicts(64)));
  expect_only(load_rows(8, 4), Kind::kMisaligned, 0, "reads 16 bytes at byte 8 of 'tile'");
  expect_only(load_rows(100, 0), Kind::kMisaligned, 1, "reads 16 bytes");
  expect_only(load_rows(128, 128), Kind::kOutOfBounds, 31, "reads 16 bytes at byte 8192 of 'tile', which has 8192");
  const Buffer<const half> global("global", std::vector<half>(256));
  expect_only(run({"global", 1, 32}, [&] {
                unsigned registers[4];
                ldmatrix(registers, global.address() + threadIdx.x * 8);
              }),
              Kind::kArgument, 0, "shared memory only");
  expect_only(run({"unwritten", 1, 32}, [&] {
                SHARED(half, tile, 256);
                if (threadIdx.x != 9) store(reinterpret_cast<uint4*>(tile) + threadIdx.x, uint4{});
                __syncwarp();
                unsigned registers[4];
                ldmatrix(registers, tile + threadIdx.x * 8);
              }),
              Kind::kUnwritten, 9, "reads byte 144 of 'tile'");
  expect_only(run({"race", 1, 64}, [&] {
                SHARED(half, tile, 512);
                store(reinterpret_cast<uint4*>(tile) + threadIdx.x, uint4{});
                __syncwarp();
                unsigned registers[4];
                ldmatrix(registers, tile + (threadIdx.x ^ (threadIdx.x < 40 ? 0 : 32)) * 8);
              }),
              Kind::kRace, 40, "which thread 8 accessed");
}

TEST(matrix_operations_need_whole_warps_at_one_place) {
  Report report = run({"half", 1, 32}, [] {
    float sums[4] = {};
    const unsigned a[2] = {}, b[1] = {};
    if (threadIdx.x < 16) mma<half>(sums, a, b);
  });
  expect_only(report, Kind::kDivergence, 0, "mma.m16n8k8 names lane 16");
  report = run({"places", 1, 32}, [] {
    float sums[4] = {};
    const unsigned a[2] = {}, b[1] = {};
    if (threadIdx.x < 16) {
      mma<half>(sums, a, b);
    } else {
      mma<half>(sums, a, b);
    }
  });
  expect_only(report, Kind::kDivergence, 0, "waits in mma.m16n8k8 without end");
  report = run({"small", 1, 16}, [] {
    float sums[4] = {};
    const unsigned a[4] = {}, b[2] = {};
    mma<half>(sums, a, b);
  });
  expect_only(report, Kind::kArgument, 0, "needs a warp of 32 threads");
}

}  // namespace
