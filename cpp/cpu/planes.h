// Codes as they are stored, one dense plane for each power of two in their bits (eqnet/packed/planes.py draws it).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace eqnet {

constexpr int kPlanes[] = {8, 4, 2, 1};  // widths, widest first

inline std::int64_t plane_bytes(std::int64_t count, int width) { return (count * width + 7) / 8; }

// Four neighbours of `Width` bits each, the first one lowest, to the low bits of four bytes.
template <int Width>
inline std::uint32_t spread(std::uint32_t four) {
  if constexpr (Width == 8) {
    return four;
  } else if constexpr (Width == 4) {
    four = (four | four << 8) & 0x00ff00ffu;
    return (four | four << 4) & 0x0f0f0f0fu;
  } else if constexpr (Width == 2) {
    return (four | four << 6 | four << 12 | four << 18) & 0x03030303u;
  } else {
    return (four | four << 7 | four << 14 | four << 21) & 0x01010101u;
  }
}

// Copies `bits` bits of a plane, from bit `from` on, and fills the last byte with 0.
inline void copy_bits(const std::uint8_t* plane, std::int64_t from, std::int64_t bits, std::uint8_t* out) {
  if (bits <= 0) return;
  const std::uint8_t* source = plane + from / 8;
  const int shift = static_cast<int>(from % 8);
  const std::int64_t bytes = (bits + 7) / 8;
  if (shift == 0) {
    std::memcpy(out, source, static_cast<std::size_t>(bytes));
  } else {
    for (std::int64_t i = 0; i + 1 < bytes; ++i) {
      out[i] = static_cast<std::uint8_t>(source[i] >> shift | source[i + 1] << (8 - shift));
    }
    // The plane may end where the last bit that is asked for does.
    const std::int64_t last = bytes - 1;
    const bool crosses = bits - 8 * last > 8 - shift;
    out[last] = static_cast<std::uint8_t>(source[last] >> shift | (crosses ? source[last + 1] << (8 - shift) : 0));
  }
  if (bits % 8 != 0) out[bytes - 1] &= static_cast<std::uint8_t>((1 << bits % 8) - 1);
}

// Joins a plane to codes, `done` bits of which are there already. out: whole groups of four codes are written.
template <int Width>
inline void join_plane(const std::uint8_t* plane, std::int64_t first, std::int64_t count, int done, std::uint8_t* out) {
  constexpr std::int64_t kAtOnce = 64;
  constexpr std::uint32_t kMask = Width == 8 ? 0xffffffffu : (1u << (4 * Width % 32)) - 1;
  std::uint8_t bytes[kAtOnce * Width / 8 + 4] = {};  // four bytes are read where as few as half a byte counts
  for (std::int64_t start = 0; start < count; start += kAtOnce) {
    const std::int64_t size = std::min(kAtOnce, count - start);
    copy_bits(plane, (first + start) * Width, size * Width, bytes);
    for (std::int64_t four = 0; 4 * four < size; ++four) {
      std::uint32_t fields, codes;
      std::memcpy(&fields, bytes + four * Width / 2, 4);
      std::memcpy(&codes, out + start + 4 * four, 4);
      codes |= spread<Width>(fields >> (four * Width % 2 * 4) & kMask) << done;
      std::memcpy(out + start + 4 * four, &codes, 4);
    }
  }
}

// Codes [first, first + count) of the `total` ones in `planes`, a byte each.
// out: `count` bytes, rounded up to whole fours.
inline void unpack_codes(const std::uint8_t* planes, std::int64_t total, std::int64_t first, std::int64_t count, int bits,
                         std::uint8_t* out) {
  std::memset(out, 0, static_cast<std::size_t>((count + 3) / 4 * 4));
  int done = 0;
  for (const int width : kPlanes) {
    if ((bits & width) == 0) continue;
    switch (width) {
      case 8: join_plane<8>(planes, first, count, done, out); break;
      case 4: join_plane<4>(planes, first, count, done, out); break;
      case 2: join_plane<2>(planes, first, count, done, out); break;
      default: join_plane<1>(planes, first, count, done, out); break;
    }
    planes += plane_bytes(total, width);
    done += width;
  }
}

}  // namespace eqnet
