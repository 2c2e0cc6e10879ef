// Packed weights as the kernels read them.
//
// A panel holds 32 output channels, in two halves of 16. It is a sequence of blocks of 32 columns, and a block a
// sequence of cache lines, `bits` of them for each half:
//
//     panel 0 | panel 1 | ...                        32 output channels each; missing ones have scale 0
//     block 0 | block 1 | ...                        32 columns each
//     plane of 8, 4, 2, 1 bits, those that `bits` has    as on disk, widest first; a plane of w bits has w lines
//     line 0 | ... | line w - 1
//     half 0 (channels 0-15) | half 1 (channels 16-31)   64 bytes each
//
// The kernels read them in this order, front to back: what prefetches memory follows nothing else.
//
// A line is 16 dwords, one a channel, of 4 bytes, one a column. A step is 4 columns; a block has steps 0 to 7. Line i
// of a plane of w bits holds, from the low bits of each byte up, steps i, i + w, i + 2w, ...:
//
//     w = 4, line 1:   channel 0                                      | channel 1 ...
//                      columns 20,4 | 21,5 | 22,6 | 23,7: steps 5 and 1 (high nibble, low nibble)
//
// This is the order in which dot products of 4 bytes (VNNI, SDOT) take their operands: a shift and a mask turn a line
// into the weights of one step for 16 channels, whatever the width, and sums never cross lanes.
//
// Each group of columns is padded to whole blocks (groups of up to 16 columns to half a block), so that a block never
// has more than one scale (or two). What multiplies padding is 0 in every activation.
#pragma once

#include <cstdint>

namespace eqnet {

enum class ScaleType : int { kFloat16, kBfloat16, kFloat32 };

constexpr std::int64_t kPanel = 32;    // output channels of a panel
constexpr std::int64_t kHalf = 16;     // output channels of half a panel: 32-bit lanes of the kernels' vectors
constexpr std::int64_t kBlock = 32;    // columns of a block
constexpr std::int64_t kStep = 4;      // columns of a step
constexpr std::int64_t kSteps = 8;     // steps of a block
constexpr std::int64_t kLine = 64;     // bytes of a line

struct PanelShape {
  std::int64_t rows;        // output channels
  std::int64_t cols;        // inputs of one output
  std::int64_t group_size;  // columns that share a scale, at least 1; cols if all do
  int bits;                 // 2 to 8

  std::int64_t panels() const { return (rows + kPanel - 1) / kPanel; }
  std::int64_t groups() const { return (cols + group_size - 1) / group_size; }

  // Whether two groups share a block.
  bool half_blocks() const { return group_size <= kBlock / 2 && groups() > 1; }
  std::int64_t group_blocks() const { return ((group_size < cols ? group_size : cols) + kBlock - 1) / kBlock; }
  std::int64_t blocks() const { return half_blocks() ? (groups() + 1) / 2 : groups() * group_blocks(); }
  std::int64_t padded_cols() const { return blocks() * kBlock; }
  // Where the columns of a group begin among the padded ones.
  std::int64_t group_start(std::int64_t group) const {
    return group * (half_blocks() ? kBlock / 2 : group_blocks() * kBlock);
  }

  std::int64_t block_bytes() const { return 2 * bits * kLine; }
  std::int64_t panel_bytes() const { return blocks() * block_bytes(); }
  std::int64_t code_bytes() const { return panels() * panel_bytes(); }
  // Groups for which scales and zero points are kept: a last half block has them too.
  std::int64_t scale_groups() const { return half_blocks() ? 2 * blocks() : groups(); }
  std::int64_t scale_count() const { return panels() * scale_groups() * kPanel; }
};

// A view of prepared weights. The weight is (u - zero) * scale with unsigned codes u.
struct Panels {
  PanelShape shape;
  const std::uint8_t* codes;  // [panels, blocks, bits, 2, 64], 64-byte aligned
  const void* scales;         // [panels, scale groups, 32] of `scale_type`
  ScaleType scale_type;
  const std::uint8_t* zeros;  // [panels, scale groups, 32] unsigned, or null: 2^(bits - 1) everywhere (symmetric)
};

// Fills panels from the planes that are stored (eqnet/packed/planes.py).
//
// codes: planes of rows * cols codes. scale: [rows or 1, groups or 1] of elements of `scale_bytes`. zero_point: planes
// of as many zero points, or null. out_*: as in Panels; written whole.
void fill_panels(const PanelShape& shape, const std::uint8_t* codes, const void* scale, int scale_bytes,
                 bool scale_per_row, const std::uint8_t* zero_point, std::uint8_t* out_codes, void* out_scales,
                 std::uint8_t* out_zeros, int threads);

}  // namespace eqnet
