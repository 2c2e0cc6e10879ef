// Packed weights as the kernels for GPUs read them.
//
// A tile is 64 output channels by 64 columns. It is `bits` lines of 512 bytes, of which each lane of a warp reads 16:
//
//     tile (0, 0) | tile (0, 1) | ... | tile (1, 0) | ...    (channels, columns); what is missing has scale 0
//     plane of 8, 4, 2, 1 bits, those that `bits` has         as on disk, widest first; a plane of w bits has w lines
//     line 0 | ... | line w - 1
//     lane 0 | lane 1 | ... | lane 31                         16 bytes each: four words of 32 bits
//
// A lane has 64 pairs of codes of a tile, those that it gives to tensor cores (mma.m16n8k16, operand a). With lane =
// 4·g + t, pair p = 16·step + 4·m + i is of the channel 16·m + g (i = 0, 2) or 16·m + g + 8 (i = 1, 3), and of the
// columns 16·step + 2·t and the next one (i = 0, 1), or of those 8 columns further (i = 2, 3):
//
//     step 0: columns 0-15 of the tile       pairs 0-15        m = 0: channels 0-15     pairs 0-3
//     step 1: columns 16-31                  pairs 16-31       m = 1: channels 16-31    pairs 4-7  ...
//
// A word of a plane of w bits holds 16 / w pairs, in their order from the low bits up: of each pair, the code of the
// first column in the lower half of the word, and that of the second one at the same place in the upper half:
//
//     w = 4, word 0:     pair 3 | pair 2 | pair 1 | pair 0      second column    bits 16-31
//                        pair 3 | pair 2 | pair 1 | pair 0      first column     bits 0-15
//
// So a shift and a mask make of a word two numbers of 16 bits, as tensor cores take them. At 4 bits line s is step s,
// and word m of it channels 16·m on.
//
// Scales and zero points lie by rows of tiles, groups and channels, the channels in the order in which lanes want them:
// 16·m + 8·h + g at place 8·g + 2·m + h.
//
// Each group of columns is padded to whole steps, so that a step has one scale, and all columns to whole tiles. What
// multiplies padding is 0 in every activation.
#pragma once

#include <cstdint>

namespace eqnet {

constexpr std::int64_t kTile = 64;       // output channels, and columns, of a tile
constexpr std::int64_t kTileStep = 16;   // columns of a step
constexpr std::int64_t kTileSteps = 4;   // steps of a tile
constexpr std::int64_t kLineBytes = 512;  // of a line of a tile

struct TileShape {
  std::int64_t rows;        // output channels
  std::int64_t cols;        // inputs of one output
  std::int64_t group_size;  // columns that share a scale, 1 to cols; cols if all do
  int bits;                 // 2 to 8

  std::int64_t row_tiles() const { return (rows + kTile - 1) / kTile; }
  std::int64_t col_tiles() const {
    const std::int64_t groups = (cols + group_size - 1) / group_size;
    const std::int64_t steps = groups * ((group_size + kTileStep - 1) / kTileStep);
    return (steps + kTileSteps - 1) / kTileSteps;
  }
  std::int64_t padded_cols() const { return col_tiles() * kTile; }
  // Steps of a group; of all columns, if they share a scale.
  std::int64_t group_steps() const {
    return group_size < cols ? (group_size + kTileStep - 1) / kTileStep : col_tiles() * kTileSteps;
  }
  // Groups that have scales, those of the padding after the last one among them.
  std::int64_t groups() const { return (col_tiles() * kTileSteps + group_steps() - 1) / group_steps(); }

  std::int64_t tile_bytes() const { return bits * kLineBytes; }
  std::int64_t code_bytes() const { return row_tiles() * col_tiles() * tile_bytes(); }
  std::int64_t scale_count() const { return row_tiles() * groups() * kTile; }
};

}  // namespace eqnet
