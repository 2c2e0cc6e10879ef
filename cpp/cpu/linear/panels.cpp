#include "eqnet/panels.h"

#include <algorithm>
#include <cstring>

#include "../multiversion.h"
#include "../planes.h"
#include "eqnet/threads.h"

namespace eqnet {

namespace {

constexpr std::int64_t kChunk = 64;  // bytes of a plane that are taken from each row at a time: a line of the cache

// The columns of the blocks [first, first + count) of one row, those of padding 0, as they would be if they were stored.
template <int Width>
inline void take_blocks(const PanelShape& shape, const std::uint8_t* plane, std::int64_t row, std::int64_t first,
                        std::int64_t count, std::uint8_t* out) {
  constexpr std::int64_t kBytes = kBlock * Width / 8;  // of a block
  if (shape.group_size % kBlock == 0 && shape.cols % shape.group_size == 0) {
    const std::uint8_t* from = plane + (row * shape.cols / kBlock + first) * kBytes;
    if (count * kBytes == kChunk) {
      std::memcpy(out, from, kChunk);
    } else {
      std::memcpy(out, from, static_cast<std::size_t>(count * kBytes));
    }
    return;
  }
  std::memset(out, 0, static_cast<std::size_t>(count * kBytes));
  const std::int64_t begin = first * kBlock, end = (first + count) * kBlock;  // among padded columns
  const std::int64_t padded = shape.group_start(1);
  for (std::int64_t group = begin / padded; group < shape.groups() && group * padded < end; ++group) {
    const std::int64_t start = std::max(group * padded, begin);
    const std::int64_t column = group * shape.group_size + start - group * padded;
    const std::int64_t stop = std::min((group + 1) * shape.group_size, shape.cols);
    const std::int64_t size = std::min(stop - column, end - start);
    copy_bits(plane, (row * shape.cols + column) * Width, size * Width, out + (start - begin) * Width / 8);
  }
}

// One plane of 16 channels in one block. rows: [16, kChunk], of which the block is at `offset`.
template <int Width>
inline void fill_half(const std::uint8_t* rows, std::int64_t offset, std::uint8_t* lines) {
  constexpr std::uint32_t kMask = Width == 8 ? 0xffffffffu : (1u << (4 * Width % 32)) - 1;
  alignas(64) std::uint32_t words[Width][kHalf];
  for (std::int64_t channel = 0; channel < kHalf; ++channel) {
    for (int i = 0; i < Width; ++i) std::memcpy(&words[i][channel], rows + channel * kChunk + offset + 4 * i, 4);
  }
  for (int line = 0; line < Width; ++line) {
    alignas(64) std::uint32_t joined[kHalf] = {};
    for (int part = 0; part * Width < 8; ++part) {
      const int bit = 4 * Width * (line + part * Width);  // of the step in a row
      for (std::int64_t channel = 0; channel < kHalf; ++channel) {
        joined[channel] |= spread<Width>(words[bit / 32][channel] >> (bit % 32) & kMask) << (part * Width);
      }
    }
    std::memcpy(lines + 2 * line * kLine, joined, kLine);
  }
}

// One plane of one panel. Rows are read a line of the cache at a time, as they may lie a power of two apart.
template <int Width>
EQNET_MULTIVERSION void fill_plane(const PanelShape& shape, std::int64_t panel, const std::uint8_t* plane,
                                   std::int64_t line_offset, std::uint8_t* out) {
  constexpr std::int64_t kBytes = kBlock * Width / 8;
  const std::int64_t rows = std::min(kPanel, shape.rows - panel * kPanel);
  const std::int64_t blocks = shape.blocks();
  alignas(64) std::uint8_t chunk[kPanel * kChunk] = {};
  for (std::int64_t first = 0; first < blocks; first += kChunk / kBytes) {
    const std::int64_t count = std::min(kChunk / kBytes, blocks - first);
    for (std::int64_t channel = 0; channel < rows; ++channel) {
      take_blocks<Width>(shape, plane, panel * kPanel + channel, first, count, chunk + channel * kChunk);
    }
    for (std::int64_t block = 0; block < count; ++block) {
      for (std::int64_t half = 0; half < 2; ++half) {
        fill_half<Width>(chunk + half * kHalf * kChunk, block * kBytes,
                         out + (first + block) * shape.block_bytes() + (2 * line_offset + half) * kLine);
      }
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

// [rows of a panel, groups] to [groups, 32]; what is not there becomes 0.
template <class T>
void transpose(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t groups, std::int64_t kept, T* to) {
  std::fill(to, to + kept * kPanel, T{0});
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t group = 0; group < groups; ++group) to[group * kPanel + row] = from[row * stride + group];
  }
}

template <class T>
void fill_scales(const PanelShape& shape, std::int64_t panel, const void* scale, bool per_row, void* out) {
  const std::int64_t groups = shape.groups(), kept = shape.scale_groups();
  const std::int64_t rows = std::min(kPanel, shape.rows - panel * kPanel);
  transpose(static_cast<const T*>(scale) + (per_row ? panel * kPanel * groups : 0), per_row ? groups : 0, rows, groups,
            kept, static_cast<T*>(out) + panel * kept * kPanel);
}

void fill_zeros(const PanelShape& shape, std::int64_t panel, const std::uint8_t* zero_point, bool per_row,
                std::uint8_t* out) {
  constexpr std::int64_t kAtOnce = 256;
  const std::int64_t groups = shape.groups(), kept = shape.scale_groups();
  const std::int64_t rows = std::min(kPanel, shape.rows - panel * kPanel);
  out += panel * kept * kPanel;
  std::memset(out, 0, static_cast<std::size_t>(kept * kPanel));
  std::uint8_t codes[kAtOnce];
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t stored = per_row ? panel * kPanel + row : 0;
    for (std::int64_t first = 0; first < groups; first += kAtOnce) {
      const std::int64_t size = std::min(kAtOnce, groups - first);
      unpack_codes(zero_point, (per_row ? shape.rows : 1) * groups, stored * groups + first, size, shape.bits, codes);
      for (std::int64_t i = 0; i < size; ++i) out[(first + i) * kPanel + row] = codes[i];
    }
  }
}

}  // namespace

void fill_panels(const PanelShape& shape, const std::uint8_t* codes, const void* scale, int scale_bytes,
                 bool scale_per_row, const std::uint8_t* zero_point, std::uint8_t* out_codes, void* out_scales,
                 std::uint8_t* out_zeros, int threads) {
  parallel_for(shape.panels(), threads, [&](std::int64_t panel) {
    fill_codes(shape, panel, codes, out_codes + panel * shape.panel_bytes());
    if (scale_bytes == 2) {
      fill_scales<std::uint16_t>(shape, panel, scale, scale_per_row, out_scales);
    } else {
      fill_scales<std::uint32_t>(shape, panel, scale, scale_per_row, out_scales);
    }
    if (out_zeros != nullptr) fill_zeros(shape, panel, zero_point, scale_per_row, out_zeros);
  });
}

}  // namespace eqnet
