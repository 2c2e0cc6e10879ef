#include <algorithm>
#include <vector>

#include "../multiversion.h"
#include "eqnet/threads.h"
#include "rounding.h"

namespace eqnet {
namespace {

using namespace lanes;

constexpr int kStrips = 4;  // that the matrix is read for once

// What columns [start, start + columns) of x add to the forms of its lanes: their products with themselves and with all
// columns before them, twice.
EQNET_MULTIVERSION
void add_forms(const Lanes* x, std::int64_t start, std::int64_t columns, const float* matrix, std::int64_t cols,
               double* forms) {
  Lanes before[kColumns]{};  // less than 0, as it is taken away
  take_errors(x, start, matrix + start * cols, cols, before, columns);
  for (std::int64_t c = 0; c < columns; ++c) {
    const float* row = matrix + (start + c) * cols + start;
    for (std::int64_t k = 0; k < c; ++k) {
      for (int l = 0; l < kWidth; ++l) before[c][l] -= x[start + k][l] * row[k];
    }
    for (int l = 0; l < kWidth; ++l) {
      const float value = x[start + c][l];
      forms[l] += static_cast<double>(value * (value * row[c] - 2.0f * before[c][l]));
    }
  }
}

void add_tile(const float* x, std::int64_t rows, std::int64_t cols, const float* matrix, double* forms) {
  const auto strips = static_cast<std::size_t>((rows + kWidth - 1) / kWidth);
  const auto size = static_cast<std::size_t>(cols);
  std::vector<Lanes> lanes(strips * size);
  for (std::int64_t row = 0; row < rows; ++row) {
    Lanes* strip = lanes.data() + row / kWidth * cols;
    for (std::int64_t c = 0; c < cols; ++c) strip[c][static_cast<int>(row % kWidth)] = x[row * cols + c];
  }
  std::vector<double> sums(strips * kWidth);
  for (std::int64_t start = 0; start < cols; start += kColumns) {
    const std::int64_t columns = std::min(kColumns, cols - start);
    for (std::size_t i = 0; i < strips; ++i) {
      add_forms(lanes.data() + i * size, start, columns, matrix, cols, sums.data() + i * kWidth);
    }
  }
  std::copy_n(sums.data(), rows, forms);
}

}  // namespace

void quadratic_forms(const float* x, std::int64_t rows, std::int64_t cols, const float* matrix, double* forms,
                     int threads) {
  constexpr std::int64_t kRows = kStrips * kWidth;
  parallel_for((rows + kRows - 1) / kRows, threads, [&](std::int64_t i) {
    const std::int64_t first = i * kRows;
    add_tile(x + first * cols, std::min(kRows, rows - first), cols, matrix, forms + first);
  });
}

}  // namespace eqnet
