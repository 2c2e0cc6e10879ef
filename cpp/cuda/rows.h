// Kernels that go along rows of a matrix, each thread at a few columns: blocks along x share a row, those along y take
// rows, and go on to further ones where there are more than a grid can have.
#pragma once

#include <algorithm>
#include <cstdint>

#include "launch.h"

namespace eqnet::cuda {

struct RowGrid {
  dim3 grid;
  int threads;

  // columns_each: of a thread.
  static RowGrid of(std::int64_t rows, std::int64_t cols, int columns_each) {
    constexpr std::int64_t kMostThreads = 256, kMostBlocks = 65535, kWarp = 32;
    const std::int64_t all = (cols + columns_each - 1) / columns_each;
    const std::int64_t threads = std::min(kMostThreads, (all + kWarp - 1) / kWarp * kWarp);
    return {dim3(static_cast<unsigned>((all + threads - 1) / threads),
                 static_cast<unsigned>(std::min(rows, kMostBlocks))),
            static_cast<int>(threads)};
  }
};

// The first column of a thread that has so many.
template <int kColumns>
__device__ __forceinline__ int first_column() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kColumns;
}

}  // namespace eqnet::cuda
