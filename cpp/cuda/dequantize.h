// Weights as matrices of half, bfloat16 or float: (code - zero) * scale in float32, rounded once.
//
// A warp unpacks a tile, 16 channels at a time, and puts them into shared memory, from where whole rows of 128 bytes go
// out. What a lane unpacks of one row is 4 bytes here and there.
#pragma once

#include "columns.h"
#include "dispatch.h"
#include "fragments.h"
#include "rows.h"
#include "scale.h"
#include "tiles.h"

namespace eqnet::cuda {

template <typename T>
__device__ __forceinline__ void store_floats(T* to, float x, float y) {
  if constexpr (sizeof(T) == 4) {
    store(reinterpret_cast<float2*>(to), make_float2(x, y));
  } else {
    store(reinterpret_cast<Pair<T>*>(to), from_floats<T>(x, y));
  }
}

constexpr int kStagedBytes = 128;   // of a row in shared memory
constexpr int kStoredBytes = 16;  // that a lane stores at once
template <typename T>
constexpr int kStagedCols = kStagedBytes / static_cast<int>(sizeof(T));
template <typename T>
constexpr int kStoredCols = kStoredBytes / static_cast<int>(sizeof(T));

// Where a column is in a row of shared memory. The pieces of a row change places, so that lanes of several rows that
// write at the same columns meet all banks: a warp writes 4 bytes a lane in 8 rows, a half of it 8 bytes in 4 rows.
template <typename T>
__device__ __forceinline__ int place_of(int row, int col) {
  const int swap = sizeof(T) == 2 ? row & 7 : (row & 3) * 2;
  return row * kStagedCols<T> + ((col / kStoredCols<T>) ^ swap) * kStoredCols<T> + col % kStoredCols<T>;
}

// Rows that begin at multiples of 16 bytes.
template <typename T>
__device__ __forceinline__ void store_pieces(const T* staged, int first_row, int first_col, int rows, int cols, T* out,
                                             int lane) {
  const int col = lane % 8 * kStoredCols<T>;
  if (first_col + col >= cols) return;
  UNROLL
  for (int row = lane / 8; row < 16; row += 4) {
    if (first_row + row >= rows) break;
    const uint4 piece = load(reinterpret_cast<const uint4*>(staged + place_of<T>(row, col)));
    store(reinterpret_cast<uint4*>(out + static_cast<long long>(first_row + row) * cols + first_col + col), piece);
  }
}

// Any rows, of groups with padding between them too.
template <typename T>
__device__ __forceinline__ void store_elements(const T* staged, int first_row, int first_place, int rows,
                                               const Columns& columns, T* out, int lane) {
  for (int place = lane; place < kStagedCols<T>; place += 32) {
    const int col = columns.at(first_place + place);
    if (col < 0) continue;
    for (int row = 0; row < min(16, rows - first_row); ++row) {
      store(out + static_cast<long long>(first_row + row) * columns.cols + col, load(staged + place_of<T>(row, place)));
    }
  }
}

constexpr int kDequantizeWarps = 4;  // of a block; a tile each

// out: [rows, cols]. in_pieces: whether its rows begin at multiples of 16 bytes, and no padding is between its groups.
template <typename T, int kBits>
__global__ void __launch_bounds__(kDequantizeWarps * 32) dequantize_tiles(Tiles weight, Columns columns, bool in_pieces,
                                                                          T* out) {
  SHARED(T, all_staged, kDequantizeWarps * 16 * kStagedCols<T>);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const long long tile = static_cast<long long>(blockIdx.x) * kDequantizeWarps + warp;
  const int row_tile = static_cast<int>(tile / weight.col_tiles);
  const int col_tile = static_cast<int>(tile - static_cast<long long>(row_tile) * weight.col_tiles);
  if (row_tile >= weight.row_tiles) return;
  T* staged = all_staged + warp * 16 * kStagedCols<T>;

  Lines<kBits> lines;
  load_lines(lines, weight.codes + tile * kBits * 32, lane);
  Scales scales[kTileSteps];
  uint2 zeros[kTileSteps];
  int last_group = -1;
  UNROLL
  for (int step = 0; step < kTileSteps; ++step) {
    const int group = (col_tile * static_cast<int>(kTileSteps) + step) / weight.group_steps;
    if (step > 0 && group == last_group) {
      scales[step] = scales[step - 1];
      zeros[step] = zeros[step - 1];
    } else {
      scales[step] = load_scales(weight, row_tile, group, lane);
      zeros[step] = load_zeros<kBits>(weight, row_tile, group, lane);
    }
    last_group = group;
  }

  constexpr int kSteps = kStagedCols<T> / static_cast<int>(kTileStep);  // of a row in shared memory
  UNROLL
  for (int first_step = 0; first_step < kTileSteps; first_step += kSteps) {
    UNROLL
    for (int m = 0; m < 4; ++m) {
      UNROLL
      for (int i = 0; i < kSteps; ++i) {
        const int step = first_step + i;
        const unsigned four = m < 2 ? zeros[step].x : zeros[step].y;
        unsigned a[4];  // half holds every code exactly
        unpack<half, kBits>(lines, step, m, offset_of<half, kBits>(four, m % 2 * 2),
                            offset_of<half, kBits>(four, m % 2 * 2 + 1), a);
        UNROLL
        for (int r = 0; r < 4; ++r) {
          const float2 codes = to_floats(reinterpret<half2>(a[r]));
          const float scale = scales[step].values[2 * m + r % 2];
          const int col = i * static_cast<int>(kTileStep) + r / 2 * 8 + lane % 4 * 2;
          store_floats(staged + place_of<T>(lane / 4 + r % 2 * 8, col), codes.x * scale, codes.y * scale);
        }
      }
      __syncwarp();
      const int first_row = row_tile * static_cast<int>(kTile) + 16 * m;
      const int first_col = (col_tile * static_cast<int>(kTileSteps) + first_step) * static_cast<int>(kTileStep);
      if (in_pieces) {
        store_pieces(staged, first_row, first_col, weight.rows, columns.cols, out, lane);
      } else {
        store_elements(staged, first_row, first_col, weight.rows, columns, out, lane);
      }
      __syncwarp();
    }
  }
}

template <typename T>
void dequantize(const eqnet_cuda_weight& weight, T* out, Stream stream) {
  const TileShape shape = shape_of(weight);
  const Columns columns = Columns::of(shape);
  const bool in_pieces = columns.in_place() && shape.cols % kStoredCols<T> == 0;
  const std::int64_t blocks = (shape.row_tiles() * shape.col_tiles() + kDequantizeWarps - 1) / kDequantizeWarps;
  for_bits(weight.bits, [&](auto bits) {
    launch("dequantize_tiles", dequantize_tiles<T, bits()>, dim3(static_cast<unsigned>(blocks)), kDequantizeWarps * 32,
           0, stream, Tiles::of(weight), columns, in_pieces, out);
  });
}

// GLM-130B's order: [rows, cols] of int8, or [rows, cols / 2] of two codes of 4 bits, the even column in the high half.
// kColumns: as many as are stored at once, where rows are multiples of them, or 1.
template <typename T, int kColumns>
__global__ void __launch_bounds__(256) dequantize_rows(const unsigned char* codes, const void* scales, int scale_type,
                                                       int rows, int cols, int bits, T* out) {
  const int col = first_column<kColumns>();
  if (col >= cols) return;
  const long long row_bytes = static_cast<long long>(cols) * bits / 8;
  for (long long row = blockIdx.y; row < rows; row += gridDim.y) {
    const unsigned char* from = codes + row * row_bytes + static_cast<long long>(col) * bits / 8;
    const float scale = load_scale(scales, scale_type, row);
    // The codes in the order of columns, a byte each; those of 4 bits in its high half.
    unsigned words[(kColumns + 3) / 4];
    if constexpr (kColumns == 1) {
      const unsigned byte = load(from);
      words[0] = bits == 4 && col % 2 == 1 ? byte << 4 : byte;
    } else if constexpr (kColumns == 4) {
      if (bits == 8) {
        words[0] = load(reinterpret_cast<const unsigned*>(from));
      } else {
        const unsigned pairs = load(reinterpret_cast<const unsigned short*>(from));
        words[0] = __byte_perm(pairs, pairs << 4, 0x5140);
      }
    } else {
      if (bits == 8) {
        const uint2 both = load(reinterpret_cast<const uint2*>(from));
        words[0] = both.x;
        words[1] = both.y;
      } else {
        const unsigned pairs = load(reinterpret_cast<const unsigned*>(from));
        words[0] = __byte_perm(pairs, pairs << 4, 0x5140);
        words[1] = __byte_perm(pairs, pairs << 4, 0x7362);
      }
    }
    T values[kColumns];
    UNROLL
    for (int i = 0; i < kColumns; ++i) {
      const int code = static_cast<signed char>(words[i / 4] >> (i % 4 * 8)) >> (8 - bits);
      const float value = static_cast<float>(code) * scale;
      if constexpr (sizeof(T) == 4) {
        values[i] = value;
      } else {
        values[i] = from_float<T>(value);
      }
    }
    using Vector = std::conditional_t<kColumns == 1, T, uint4>;
    store(reinterpret_cast<Vector*>(out + row * cols + col), reinterpret<Vector>(values));
  }
}

template <typename T>
void dequantize_glm(const void* codes, const void* scales, int scale_type, std::int64_t rows, std::int64_t cols,
                    int bits, T* out, Stream stream) {
  const bool whole = cols % kStoredCols<T> == 0;
  const RowGrid grid = RowGrid::of(rows, cols, whole ? kStoredCols<T> : 1);
  launch("dequantize_rows", whole ? dequantize_rows<T, kStoredCols<T>> : dequantize_rows<T, 1>, grid.grid, grid.threads,
         0, stream, static_cast<const unsigned char*>(codes), scales, scale_type, static_cast<int>(rows),
         static_cast<int>(cols), bits, out);
}

}  // namespace eqnet::cuda
