// Rows of a table, read as it is stored (eqnet/packed/planes.py), where they begin within a byte too.
#pragma once

#include "rows.h"
#include "scale.h"

namespace eqnet::cuda {

struct Table {
  const unsigned char* codes;
  const void* scale;
  const unsigned char* zero_point;  // null: 2^(bits - 1) everywhere
  long long rows;
  int cols;
  int group_size;
  int groups;  // of a row
  int bits;
  int scale_type;
  bool scale_per_row;

  static Table of(const eqnet_cuda_table& table) {
    return {static_cast<const unsigned char*>(table.codes),
            table.scale,
            static_cast<const unsigned char*>(table.zero_point),
            table.rows,
            static_cast<int>(table.cols),
            static_cast<int>(table.group_size),
            static_cast<int>((table.cols + table.group_size - 1) / table.group_size),
            table.bits,
            table.scale_type,
            table.scale_per_row != 0};
  }
};

// kCount codes from `index` on, of the planes of `total` ones. kCount: 4, where both are multiples of it, or 1.
template <int kCount>
__device__ __forceinline__ void load_codes(const unsigned char* planes, long long total, long long index, int bits,
                                           unsigned (&codes)[kCount]) {
  UNROLL
  for (int i = 0; i < kCount; ++i) codes[i] = 0;
  int done = 0;
  UNROLL
  for (int width = 8; width > 0; width /= 2) {
    if (!(bits & width)) continue;
    // Planes of 8 and of 4 bits come first, so that what is read of them at once is aligned.
    const unsigned char* from = planes + index * width / 8;
    unsigned word;
    if (kCount == 4 && width == 8) {
      word = load(reinterpret_cast<const unsigned*>(from));
    } else if (kCount == 4 && width == 4) {
      word = load(reinterpret_cast<const unsigned short*>(from));
    } else {
      word = static_cast<unsigned>(load(from)) >> (index * width % 8);
    }
    UNROLL
    for (int i = 0; i < kCount; ++i) codes[i] |= (word >> (i * width) & ((1u << width) - 1)) << done;
    planes += (total * width + 7) / 8;
    done += width;
  }
}

// out: [count, cols]. kColumns: 4, where rows and groups are multiples of it, or 1.
template <int kColumns>
__global__ void __launch_bounds__(256) gather_rows(Table table, const std::int64_t* indices, std::int64_t count,
                                                   float* out) {
  using Vector = std::conditional_t<kColumns == 4, float4, float>;
  const int column = first_column<kColumns>();
  if (column >= table.cols) return;
  const int group = column / table.group_size;
  for (long long i = blockIdx.y; i < count; i += gridDim.y) {
    const long long row = load(indices + i);
    float values[kColumns];
    if (row >= 0 && row < table.rows) {
      unsigned codes[kColumns], zero[1] = {1u << (table.bits - 1)};
      load_codes(table.codes, table.rows * table.cols, row * table.cols + column, table.bits, codes);
      const long long at = (table.scale_per_row ? row * table.groups : 0) + group;
      if (table.zero_point != nullptr) {
        load_codes(table.zero_point, (table.scale_per_row ? table.rows : 1) * table.groups, at, table.bits, zero);
      }
      const float scale = load_scale(table.scale, table.scale_type, at);
      UNROLL
      for (int c = 0; c < kColumns; ++c) {
        values[c] = static_cast<float>(static_cast<int>(codes[c]) - static_cast<int>(zero[0])) * scale;
      }
    } else {
      UNROLL
      for (int c = 0; c < kColumns; ++c) values[c] = __uint_as_float(0x7fffffffu);
    }
    store(reinterpret_cast<Vector*>(out + i * table.cols + column), reinterpret<Vector>(values));
  }
}

inline void embedding(const eqnet_cuda_table& table, const std::int64_t* indices, std::int64_t count, float* out,
                      Stream stream) {
  const bool whole = table.cols % 4 == 0 && table.group_size % 4 == 0;
  const RowGrid rows = RowGrid::of(count, table.cols, whole ? 4 : 1);
  launch("gather_rows", whole ? gather_rows<4> : gather_rows<1>, rows.grid, rows.threads, 0, stream, Table::of(table),
         indices, count, out);
}

}  // namespace eqnet::cuda
