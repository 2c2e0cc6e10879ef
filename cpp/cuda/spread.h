// Activations as the kernels that multiply take them: their columns where those of the weight are, and zeros between.
#pragma once

#include "columns.h"
#include "rows.h"

namespace eqnet::cuda {

// x: [tokens, cols] to y: [tokens, padded_cols], numbers of 16 bits of any kind. kColumns: 8, where groups and rows
// begin at multiples of 16 bytes, or 1.
template <int kColumns>
__global__ void __launch_bounds__(256) spread_columns(const unsigned short* x, Columns columns, int tokens,
                                                      unsigned short* y) {
  using Vector = std::conditional_t<kColumns == 8, uint4, unsigned short>;
  const int place = first_column<kColumns>();
  if (place >= columns.padded_cols) return;
  const int column = columns.at(place);
  for (long long token = blockIdx.y; token < tokens; token += gridDim.y) {
    Vector value{};
    if (column >= 0) value = load(reinterpret_cast<const Vector*>(x + token * columns.cols + column));
    store(reinterpret_cast<Vector*>(y + token * columns.padded_cols + place), value);
  }
}

inline void spread(const void* x, const TileShape& shape, std::int64_t tokens, void* y, Stream stream) {
  const Columns columns = Columns::of(shape);
  const bool whole = shape.cols % 8 == 0 && shape.group_size % 8 == 0;
  const RowGrid rows = RowGrid::of(tokens, shape.padded_cols(), whole ? 8 : 1);
  launch("spread_columns", whole ? spread_columns<8> : spread_columns<1>, rows.grid, rows.threads, 0, stream,
         static_cast<const unsigned short*>(x), columns, static_cast<int>(tokens), static_cast<unsigned short*>(y));
}

}  // namespace eqnet::cuda
