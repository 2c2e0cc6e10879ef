#include "matrix.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "access.h"
#include "barriers.h"
#include "memory.h"

namespace eqnet::emulator {
namespace {

constexpr int kRows = 16;    // of a and the accumulators
constexpr int kColumns = 8;  // of b and the accumulators

struct Load {
  const void* row;
  unsigned* registers;
  int count;
  bool transposed;
};

void load(Warp& warp, unsigned lanes) {
  if (lanes != ~0u) return;  // which has been told
  const Load& one = warp.operands<Load>(0);
  const Site site = warp.site(lanes);
  std::array<std::array<std::uint16_t, 8>, kLanes> rows;
  for (int lane = 0; lane < kLanes; ++lane) {
    auto& row = rows[static_cast<std::size_t>(lane)];
    const unsigned char* bytes =
        matrix_row(warp.first[lane], warp.operands<Load>(lane).row, lane < 8 * one.count, site);
    if (bytes == nullptr) {
      row.fill(kPoison << 8 | kPoison);
    } else {
      std::memcpy(row.data(), bytes, sizeof(row));
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int matrix = 0; matrix < one.count; ++matrix) {
      unsigned both = 0;
      for (int i = 0; i < 2; ++i) {
        const int along = lane % 4 * 2 + i;
        const int row = one.transposed ? along : lane / 4;
        const int column = one.transposed ? lane / 4 : along;
        const unsigned number = rows[static_cast<std::size_t>(8 * matrix + row)][static_cast<std::size_t>(column)];
        both |= number << (16 * i);
      }
      warp.operands<Load>(lane).registers[matrix] = both;
    }
  }
}

struct Product {
  float* accumulators;
  const unsigned* a;
  const unsigned* b;
};

template <typename T>
float number(const unsigned* registers, int i) {
  return widen(T{static_cast<std::uint16_t>(registers[i / 2] >> (16 * (i % 2)))});
}

template <typename T, int kDepth>
void multiply(Warp& warp, unsigned lanes) {
  if (lanes != ~0u) return;  // which has been told
  float a[kRows][kDepth], b[kDepth][kColumns], sums[kRows][kColumns];
  for (int lane = 0; lane < kLanes; ++lane) {
    const Product& mine = warp.operands<Product>(lane);
    for (int i = 0; i < kDepth / 2; ++i) {
      const Position at = position_in_a(lane, i);
      a[at.row][at.column] = number<T>(mine.a, i);
    }
    for (int i = 0; i < kDepth / 4; ++i) {
      const Position at = position_in_b(lane, i);
      b[at.row][at.column] = number<T>(mine.b, i);
    }
    for (int i = 0; i < 4; ++i) {
      const Position at = position_in_accumulators(lane, i);
      sums[at.row][at.column] = mine.accumulators[i];
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < kDepth; ++k) {
      for (int column = 0; column < kColumns; ++column) sums[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const Position at = position_in_accumulators(lane, i);
      warp.operands<Product>(lane).accumulators[i] = sums[at.row][at.column];
    }
  }
  machine().report.matrix_flops += 2 * kRows * kColumns * kDepth;
}

// What only a whole warp can do.
template <typename Operands>
void in_whole_warp(const char* operation, Operands& operands, void (*combine)(Warp&, unsigned), const Site& site) {
  const Thread& thread = machine().block.thread();
  if (thread.warp->threads < kLanes) {
    machine().find(Kind::kArgument, site, std::string(operation) + " needs a warp of 32 threads; this one has " +
                                              std::to_string(thread.warp->threads));
    return;
  }
  in_warp(operation, ~0u, operands, combine, site, true);
}

template <typename T>
void multiply_any(const char* operation, float* accumulators, const unsigned* a, const unsigned* b, int depth,
                  const Site& site) {
  Product operands{accumulators, a, b};
  in_whole_warp(operation, operands, depth == 16 ? &multiply<T, 16> : &multiply<T, 8>, site);
}

}  // namespace

void load_matrices(unsigned* registers, int count, bool transposed, const void* row, const Site& site) {
  std::fill_n(registers, count, ~0u);  // poison, if nothing is loaded
  Load operands{row, registers, count, transposed};
  in_whole_warp("ldmatrix", operands, &load, site);
}

void multiply_half(float* accumulators, const unsigned* a, const unsigned* b, int depth, const Site& site) {
  multiply_any<Half>(depth == 16 ? "mma.m16n8k16" : "mma.m16n8k8", accumulators, a, b, depth, site);
}

void multiply_bfloat16(float* accumulators, const unsigned* a, const unsigned* b, int depth, const Site& site) {
  multiply_any<Bfloat16>(depth == 16 ? "mma.m16n8k16" : "mma.m16n8k8", accumulators, a, b, depth, site);
}

}  // namespace eqnet::emulator
