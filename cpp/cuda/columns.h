// Where the columns of a weight lie once each group of them is padded to whole steps, as eqnet/tiles.h says.
#pragma once

#include "device.h"
#include "eqnet/tiles.h"

namespace eqnet::cuda {

struct Columns {
  int cols;
  int padded_cols;
  int group_size;
  int padded_group_size;

  static Columns of(const TileShape& shape) {
    return {static_cast<int>(shape.cols), static_cast<int>(shape.padded_cols()), static_cast<int>(shape.group_size),
            static_cast<int>(shape.group_steps() * kTileStep)};
  }

  // Whether padding follows the last column alone.
  bool in_place() const { return group_size == cols || group_size == padded_group_size; }

  // The column at a place among the padded ones; -1 where it is padding.
  __device__ __forceinline__ int at(int place) const {
    const int group = place / padded_group_size, offset = place - group * padded_group_size;
    if (offset >= group_size) return -1;
    const int column = group * group_size + offset;  // at most the place
    return column < cols ? column : -1;
  }
};

}  // namespace eqnet::cuda
