// What a warp does with small matrices: ldmatrix and mma, by the tables of the PTX manual.
#pragma once

#include <type_traits>

#include "half.h"
#include "report.h"

namespace eqnet::emulator {

// Loads `count` matrices of 8x8 numbers of 16 bits, of which lane 8·m + r gives row r of matrix m. Register m of a lane
// gets two neighbours of matrix m: of row lane / 4, or if transposed, of column lane / 4.
void load_matrices(unsigned* registers, int count, bool transposed, const void* row, const Site& site);

// Adds a · b to the 16x8 accumulators. a is 16xdepth, b is depthx8; depth is 8 or 16.
void multiply_half(float* accumulators, const unsigned* a, const unsigned* b, int depth, const Site& site);
void multiply_bfloat16(float* accumulators, const unsigned* a, const unsigned* b, int depth, const Site& site);

// Where number i of a lane's fragment is in its matrix.
struct Position {
  int row, column;
};
// a: 8 numbers for depth 16, 4 for depth 8; two in a register, the first in its low half.
constexpr Position position_in_a(int lane, int i) {
  return {lane / 4 + (i & 2 ? 8 : 0), lane % 4 * 2 + (i & 1) + (i & 4 ? 8 : 0)};
}
// b: 4 numbers for depth 16, 2 for depth 8.
constexpr Position position_in_b(int lane, int i) {
  return {lane % 4 * 2 + (i & 1) + (i & 2 ? 8 : 0), lane / 4};
}
// Accumulators: 4 numbers.
constexpr Position position_in_accumulators(int lane, int i) {
  return {lane / 4 + (i & 2 ? 8 : 0), lane % 4 * 2 + (i & 1)};
}

template <int kCount>
void ldmatrix(unsigned (&registers)[kCount], const void* row, Site site = Site::here()) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  load_matrices(registers, kCount, false, row, site);
}
template <int kCount>
void ldmatrix_transposed(unsigned (&registers)[kCount], const void* row, Site site = Site::here()) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  load_matrices(registers, kCount, true, row, site);
}

// T is half or __nv_bfloat16.
template <typename T, int kRegisters>
void mma(float (&accumulators)[4], const unsigned (&a)[kRegisters], const unsigned (&b)[kRegisters / 2],
         Site site = Site::here()) {
  static_assert(kRegisters == 2 || kRegisters == 4);
  static_assert(std::is_same_v<T, half> || std::is_same_v<T, __nv_bfloat16>);
  if constexpr (std::is_same_v<T, half>) {
    multiply_half(accumulators, a, b, 4 * kRegisters, site);
  } else {
    multiply_bfloat16(accumulators, a, b, 4 * kRegisters, site);
  }
}

}  // namespace eqnet::emulator
