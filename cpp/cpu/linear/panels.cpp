#include "eqnet/panels.h"

#include <algorithm>
#include <cstring>

#include "../multiversion.h"
#include "eqnet/threads.h"

namespace eqnet {

std::int64_t PanelShape::segment_blocks() const {
  const std::int64_t blocks_in_group = group_blocks();
  std::int64_t best = 1;
  for (std::int64_t blocks = 2; blocks * kBlock <= kMaxSegment; ++blocks) {
    if (blocks_in_group % blocks == 0) best = blocks;
  }
  return best;
}

namespace {

constexpr int kPlanes[] = {8, 4, 2, 1};

// Part `plane` bits wide, shifted down, of element `index` of a dense plane.
inline unsigned element(const std::uint8_t* plane, std::int64_t index, int width) {
  const std::int64_t bit = index * width;
  return (plane[bit / 8] >> (bit % 8)) & ((1u << width) - 1);
}

std::int64_t plane_bytes(std::int64_t count, int width) { return (count * width + 7) / 8; }

// Spreads 32 elements of `Width` bits, which begin at a whole byte, to 32 bytes.
template <int Width>
inline void spread(const std::uint8_t* from, std::uint8_t* to) {
  if constexpr (Width == 8) {
    std::memcpy(to, from, 32);
  } else if constexpr (Width == 4) {
    for (int i = 0; i < 16; ++i) {
      to[2 * i] = from[i] & 15;
      to[2 * i + 1] = from[i] >> 4;
    }
  } else if constexpr (Width == 2) {
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t b = from[i];  // each field moves to a byte of its own
      const std::uint32_t bytes = (b | b << 6 | b << 12 | b << 18) & 0x03030303u;
      std::memcpy(to + 4 * i, &bytes, 4);
    }
  } else {
    for (int i = 0; i < 4; ++i) {
      // Bit j of a copy in byte j, then moved to the bottom of that byte: adding 0x7f carries any set bit to bit 7.
      const std::uint64_t picked = (from[i] * 0x0101010101010101u) & 0x8040201008040201u;
      const std::uint64_t bytes = ((picked + 0x7f7f7f7f7f7f7f7fu) | picked) >> 7 & 0x0101010101010101u;
      std::memcpy(to + 8 * i, &bytes, 8);
    }
  }
}

// The elements of one channel in one block, a byte each, to the channel's dword of every line of the plane.
template <int Width>
inline void scatter(const std::uint8_t* bytes, std::uint8_t* lines) {
  std::uint32_t steps[kSteps];
  std::memcpy(steps, bytes, sizeof(steps));
  for (int line = 0; line < Width; ++line) {
    std::uint32_t word = 0;
    for (int part = 0; part * Width < 8; ++part) word |= steps[line + part * Width] << (part * Width);
    std::memcpy(lines + line * kLine, &word, 4);
  }
}

// One plane of one panel. Rows that begin at whole bytes and groups of whole blocks are spread 32 at a time.
template <int Width>
EQNET_MULTIVERSION void fill_plane(const PanelShape& shape, std::int64_t panel, const std::uint8_t* plane,
                                   std::int64_t line_offset, std::uint8_t* out) {
  const bool dense = shape.group_size % kBlock == 0 && shape.cols % shape.group_size == 0;
  const std::int64_t groups = shape.groups();
  alignas(64) std::uint8_t bytes[kBlock];
  for (std::int64_t block = 0; block < shape.blocks(); ++block) {
    for (std::int64_t channel = 0; channel < kPanel; ++channel) {
      const std::int64_t row = panel * kPanel + channel;
      std::uint8_t* lines = out + block * shape.block_bytes() + (channel / kHalf) * shape.bits * kLine +
                            line_offset * kLine + (channel % kHalf) * kStep;
      if (row >= shape.rows) {
        std::memset(bytes, 0, sizeof(bytes));
      } else if (dense) {
        spread<Width>(plane + (row * shape.cols + block * kBlock) * Width / 8, bytes);
      } else {
        std::memset(bytes, 0, sizeof(bytes));
        const std::int64_t first = shape.half_blocks() ? 2 * block : block / shape.group_blocks();
        const std::int64_t last = std::min(shape.half_blocks() ? first + 2 : first + 1, groups);
        for (std::int64_t group = first; group < last; ++group) {
          const std::int64_t start = shape.group_start(group) - block * kBlock;  // at or before this block
          const std::int64_t size = std::min(shape.group_size, shape.cols - group * shape.group_size);
          for (std::int64_t i = std::max<std::int64_t>(start, 0); i < std::min(start + size, kBlock); ++i) {
            const std::int64_t column = group * shape.group_size + i - start;
            bytes[i] = static_cast<std::uint8_t>(element(plane, row * shape.cols + column, Width));
          }
        }
      }
      scatter<Width>(bytes, lines);
    }
  }
}

using FillPlane = void (*)(const PanelShape&, std::int64_t, const std::uint8_t*, std::int64_t, std::uint8_t*);

FillPlane filler(int width) {
  switch (width) {
    case 8: return fill_plane<8>;
    case 4: return fill_plane<4>;
    case 2: return fill_plane<2>;
    default: return fill_plane<1>;
  }
}

void fill_codes(const PanelShape& shape, std::int64_t panel, const std::uint8_t* codes, std::uint8_t* out) {
  std::int64_t line = 0;
  for (const int width : kPlanes) {
    if ((shape.bits & width) == 0) continue;
    filler(width)(shape, panel, codes, line, out);
    codes += plane_bytes(shape.rows * shape.cols, width);
    line += width;
  }
}

// Element `index` of `count` codes of `bits` bits.
std::uint8_t code_at(const std::uint8_t* planes, std::int64_t count, std::int64_t index, int bits) {
  unsigned code = 0;
  int done = 0;
  for (const int width : kPlanes) {
    if ((bits & width) == 0) continue;
    code |= element(planes, index, width) << done;
    planes += plane_bytes(count, width);
    done += width;
  }
  return static_cast<std::uint8_t>(code);
}

}  // namespace

void fill_panels(const PanelShape& shape, const std::uint8_t* codes, const void* scale, int scale_bytes,
                 bool scale_per_row, const std::uint8_t* zero_point, std::uint8_t* out_codes, void* out_scales,
                 std::uint8_t* out_zeros, int threads) {
  const std::int64_t groups = shape.groups();
  const std::int64_t kept = shape.scale_groups();
  const std::int64_t count = (scale_per_row ? shape.rows : 1) * groups;
  parallel_for(shape.panels(), threads, [&](std::int64_t panel) {
    fill_codes(shape, panel, codes, out_codes + panel * shape.panel_bytes());
    for (std::int64_t group = 0; group < kept; ++group) {
      for (std::int64_t channel = 0; channel < kPanel; ++channel) {
        const std::int64_t row = panel * kPanel + channel;
        const std::int64_t to = (panel * kept + group) * kPanel + channel;
        const bool real = row < shape.rows && group < groups;
        const std::int64_t from = (scale_per_row ? row : 0) * groups + group;
        auto* scales = static_cast<std::uint8_t*>(out_scales) + to * scale_bytes;
        if (real) {
          std::memcpy(scales, static_cast<const std::uint8_t*>(scale) + from * scale_bytes,
                      static_cast<std::size_t>(scale_bytes));
        } else {
          std::memset(scales, 0, static_cast<std::size_t>(scale_bytes));
        }
        if (out_zeros != nullptr) out_zeros[to] = real ? code_at(zero_point, count, from, shape.bits) : 0;
      }
    }
  });
}

}  // namespace eqnet
