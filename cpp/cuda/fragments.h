// From the lines of a tile to operands of tensor cores: codes become numbers of 16 bits without a conversion.
//
// The bits of a code below the exponent of 1024 are the half 1024 + code; below that of 128 they are the bfloat16
// 128 + code, for up to 7 bits. What is then taken away, 1024 or 128 and the zero point, leaves a whole number that the
// type holds. bfloat16 has no room for 8 bits: there float32 is the way, 2^23 + code.
#pragma once

#include <type_traits>

#include "elements.h"

namespace eqnet::cuda {

// What one lane has of a tile.
template <int kBits>
struct Lines {
  unsigned words[4 * kBits];
};

// from: the first line of the tile, as 16 bytes a lane.
template <int kBits>
__device__ __forceinline__ void load_lines(Lines<kBits>& lines, const uint4* from, int lane) {
  UNROLL
  for (int line = 0; line < kBits; ++line) {
    const uint4 four = load_once(from + line * 32 + lane);
    lines.words[4 * line] = four.x;
    lines.words[4 * line + 1] = four.y;
    lines.words[4 * line + 2] = four.z;
    lines.words[4 * line + 3] = four.w;
  }
}

template <typename T>
struct Magic;
template <>
struct Magic<half> {
  static constexpr unsigned kPair = 0x64006400u;  // 1024 twice
};
template <>
struct Magic<__nv_bfloat16> {
  static constexpr unsigned kPair = 0x43004300u;  // 128 twice
};

template <typename T, int kBits>
constexpr bool kByFloat = sizeof(T) == 2 && !std::is_same_v<T, half> && kBits == 8;

constexpr unsigned kMagicFloat = 0x4b000000u;  // 2^23

// What is taken from both numbers of a pair: byte `which` of some zero points, and what the bits stand above. One
// instruction, or two for a place (of unpacked()) other than 0.
template <typename T, int kBits>
__device__ __forceinline__ unsigned offset_of(unsigned zeros, int which, int place = 0) {
  const auto byte = static_cast<unsigned>(which);
  if constexpr (kByFloat<T, kBits>) {
    return __byte_perm(zeros, kMagicFloat, 0x7650u | byte);
  } else if (place == 0) {
    return __byte_perm(zeros, Magic<T>::kPair, 0x7050u | byte | byte << 8);  // kPair is in a register anyway
  } else {
    return __byte_perm(zeros, 0, 0x4040u | byte | byte << 8) * (1u << place) + Magic<T>::kPair;
  }
}

// The fields of one pair in the planes of a tile, joined to codes from bit `place` up, over the bits of `base`.
template <int kBits>
__device__ __forceinline__ unsigned joined(const Lines<kBits>& lines, int pair, unsigned base, int place = 0) {
  constexpr int kAndOr = 0xea;  // (a & b) | c
  unsigned codes = base;
  int first_word = 0, done = place;
  UNROLL
  for (int width = 8; width > 0; width /= 2) {
    if (!(kBits & width)) continue;
    const int pairs = 16 / width, shift = pair % pairs * width - done;
    const unsigned word = lines.words[first_word + pair / pairs];
    const unsigned mask = ((1u << width) - 1) * 0x00010001u << done;
    codes = lop3<kAndOr>(shift >= 0 ? word >> shift : word << -shift, mask, codes);
    first_word += 4 * width;
    done += width;
  }
  return codes;
}

// One register of operand a: the codes of a pair less their zero point, exact. offset: by offset_of. place: by which
// power of two the codes, and the zero point in the offset, are larger; 0 where kByFloat.
template <typename T, int kBits>
__device__ __forceinline__ unsigned unpacked(const Lines<kBits>& lines, int pair, unsigned offset, int place = 0) {
  if constexpr (kByFloat<T, kBits>) {
    // Bytes 0 and 2, or 1 and 3, of a word; whole numbers up to 255 are the upper halves of their floats.
    const unsigned word = lines.words[pair / 2];
    const float zero = __uint_as_float(offset);
    const float first = __uint_as_float(__byte_perm(word, kMagicFloat, pair % 2 == 0 ? 0x7650 : 0x7651)) - zero;
    const float second = __uint_as_float(__byte_perm(word, kMagicFloat, pair % 2 == 0 ? 0x7652 : 0x7653)) - zero;
    return __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632);
  } else {
    unsigned codes;
    if constexpr (kBits == 8) {  // bytes 0 and 2, or 1 and 3, of a word
      codes = __byte_perm(lines.words[pair / 2], Magic<T>::kPair, pair % 2 == 0 ? 0x7250 : 0x7351);
    } else {
      codes = joined<kBits>(lines, pair, Magic<T>::kPair, place);
    }
    return reinterpret<unsigned>(__hsub2(reinterpret<Pair<T>>(codes), reinterpret<Pair<T>>(offset)));
  }
}

// Operand a of m16n8k16: channels 16·m on, columns 16·step on. low, high: the offsets of the channels 16·m + g and
// 16·m + g + 8.
template <typename T, int kBits>
__device__ __forceinline__ void unpack(const Lines<kBits>& lines, int step, int m, unsigned low, unsigned high,
                                       unsigned (&a)[4]) {
  UNROLL
  for (int i = 0; i < 4; ++i) a[i] = unpacked<T, kBits>(lines, 16 * step + 4 * m + i, i % 2 == 0 ? low : high);
}

}  // namespace eqnet::cuda
