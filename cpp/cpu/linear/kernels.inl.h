// The kernels, written once over a vector of 16 lanes of 32 bits (V). Each instruction set includes this file into one
// source of its own, compiled with its own flags; everything is internal to that source.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// Both lengthen the lives of values until the sums of a tile no longer fit into registers.
#pragma GCC optimize("no-gcse", "no-tree-pre")
#endif

#include <cmath>
#include <cstdint>
#include <utility>

#include "kernels.h"

// Loops here are written as lambdas over lambdas; none may be left as a call, or vectors would go through memory.
#define EQNET_ALWAYS __attribute__((always_inline))
#define EQNET_INLINE inline EQNET_ALWAYS

namespace eqnet {
namespace {

template <class Body, int... I>
EQNET_INLINE void unrolled(const Body& body, std::integer_sequence<int, I...>) {
  (body(std::integral_constant<int, I>()), ...);
}

// body(constant 0), body(constant 1), ... body(constant N - 1)
template <int N, class Body>
EQNET_INLINE void unrolled(const Body& body) {
  unrolled(body, std::make_integer_sequence<int, N>());
}

// body(constant row, constant half) for each row and both halves
template <int Rows, class Body>
EQNET_INLINE void each_half(const Body& body) {
  unrolled<Rows>([&](auto row) EQNET_ALWAYS { unrolled<2>([&](auto half) EQNET_ALWAYS { body(row, half); }); });
}

// The codes of step `Step` of half a block, a byte each; their widths are joined from the planes.
template <class V, int Bits, int Step>
EQNET_INLINE typename V::Int step_codes(const std::uint8_t* lines) {
  typename V::Int codes = V::zero();
  int line = 0;
  unrolled<4>([&](auto i) EQNET_ALWAYS {
    constexpr int kWidth = 8 >> i;  // 8, 4, 2, 1
    constexpr int kBelow = Bits & ~(2 * kWidth - 1);
    // How far up this plane's bits belong: the widths of the planes before it.
    constexpr int kUp = ((kBelow & 8) ? 8 : 0) + ((kBelow & 4) ? 4 : 0) + ((kBelow & 2) ? 2 : 0);
    if constexpr ((Bits & kWidth) != 0) {
      const auto raw = V::load(lines + (line + Step % kWidth) * 2 * kLine);
      const auto shifted = V::template shift_right<Step / kWidth * kWidth - kUp>(raw);
      const auto mask = V::set_byte(static_cast<std::uint8_t>(((1 << kWidth) - 1) << kUp));
      if constexpr (kWidth == 8) {
        codes = raw;
      } else if constexpr (kBelow == 0) {
        codes = V::both(shifted, mask);
      } else {
        codes = V::merge(codes, shifted, mask);
      }
      line += kWidth;
    }
  });
  return codes;
}

template <class V>
inline typename V::Float load_scale(const void* scales, ScaleType type, std::int64_t index) {
  switch (type) {
    case ScaleType::kFloat16: return V::from_half(static_cast<const std::uint16_t*>(scales) + index);
    case ScaleType::kBfloat16: return V::from_bfloat(static_cast<const std::uint16_t*>(scales) + index);
    default: return V::load_float(static_cast<const float*>(scales) + index);
  }
}

// The largest magnitude of a segment. `poison` is 0, but NaN if any x is NaN or infinite, which integers could not
// tell.
template <class V>
EQNET_INLINE float largest(const float* x, std::int64_t count, float& poison) {
  auto most = V::zero_float();
  auto bad = V::zero_float();
  for (std::int64_t i = 0; i < count; i += kHalf) {
    const auto here = V::load_float(x + i);
    most = V::max_magnitude(most, here);
    bad = V::multiply_add(here, V::zero_float(), bad);
  }
  poison = V::sum_float(bad);
  return V::largest_magnitude(most);
}

template <class V>
void quantize(const float* x, std::int64_t segments, std::int64_t segment_cols, std::int8_t* values, float* scale,
              std::int32_t* minus_sum) {
  for (std::int64_t s = 0; s < segments; ++s, x += segment_cols, values += segment_cols) {
    float poison;
    const float magnitude = largest<V>(x, segment_cols, poison);
    scale[s] = magnitude / 127.0f + poison;
    // A magnitude so small that its inverse overflows is as good as 0.
    const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;
    auto sum = V::zero();
    for (std::int64_t i = 0; i < segment_cols; i += kHalf) {
      const auto rounded = V::to_int(V::multiply(V::load_float(x + i), V::set_float(inverse)));
      sum = V::add(sum, rounded);
      V::store_bytes(values + i, rounded);
    }
    minus_sum[s] = -V::sum(sum);
  }
}

template <class V>
void split(const float* x, std::int64_t segments, std::int64_t segment_cols, std::int8_t* values, std::int64_t stride,
           float* scale, std::int32_t* minus_sum) {
  for (std::int64_t s = 0; s < segments; ++s, x += segment_cols, values += segment_cols) {
    float poison;
    int exponent = 0;
    const float magnitude = largest<V>(x, segment_cols, poison);
    std::frexp(magnitude, &exponent);  // magnitude < 2^exponent
    // Powers of two, so that nothing is rounded but what lies 2^-30 below the largest. Below 2^-90 all is 0.
    const bool tiny = !(magnitude > 1e-27f && magnitude < INFINITY);
    const float up = tiny ? 0.0f : std::ldexp(1.0f, 30 - exponent);
    typename V::Int sum[kDigits];
    unrolled<kDigits>([&](auto d) EQNET_ALWAYS { sum[d] = V::zero(); });
    for (std::int64_t i = 0; i < segment_cols; i += kHalf) {
      auto rest = V::to_int(V::multiply(V::load_float(x + i), V::set_float(up)));
      unrolled<kDigits>([&](auto d) EQNET_ALWAYS {
        const auto digit = V::low_byte(rest);
        V::store_bytes(values + d * stride + i, digit);
        sum[d] = V::add(sum[d], digit);
        rest = V::drop_byte(rest, digit);
      });
    }
    unrolled<kDigits>([&](auto d) EQNET_ALWAYS {
      scale[d * segments + s] = (tiny ? 0.0f : std::ldexp(1.0f, exponent - 30 + 8 * d)) + poison;
      minus_sum[d * segments + s] = -V::sum(sum[d]);
    });
  }
}

// How far ahead of its use a panel is fetched: what memory delivers while a few blocks are computed.
constexpr std::int64_t kAhead = 4096;

template <class V, int Lines>
EQNET_INLINE void prefetch_ahead(const std::uint8_t* lines) {
  // Not by `unrolled`: GCC takes a lambda that only prefetches for one without effect.
  for (int i = 0; i < Lines; ++i) V::prefetch(lines + kAhead + i * kLine);
  if constexpr ((Lines & (Lines - 1)) != 0 && Lines <= 12) {
    // Several planes are read in turns; touched in order first, they are still a stream to the processor. The three
    // planes of 7 bits are too many lines for that to pay.
    for (int i = 0; i < Lines; ++i) (void)*static_cast<const volatile std::uint8_t*>(lines + i * kLine);
  }
}

// Walks one panel, of which a segment has so many blocks: enter(scale group), then for each of its segments
// begin(segment), step(constant step, half, codes, column) for each step and half, and end(segment).
template <class V, int Bits, class Enter, class Begin, class Step, class End>
EQNET_INLINE void walk(const Panels& weights, std::int64_t panel, std::int64_t blocks, const Enter& enter,
                       const Begin& begin, const Step& step, const End& end) {
  const PanelShape& shape = weights.shape;
  const std::uint8_t* lines = weights.codes + panel * shape.panel_bytes();
  const std::int64_t first_group = panel * shape.scale_groups();
  std::int64_t column = 0;
  if (shape.half_blocks()) {
    for (std::int64_t block = 0; block < shape.blocks(); ++block, lines += 2 * Bits * kLine) {
      prefetch_ahead<V, 2 * Bits>(lines);
      unrolled<2>([&](auto part) EQNET_ALWAYS {
        enter(first_group + 2 * block + part);
        begin(2 * block + part);
        unrolled<4>([&](auto i) EQNET_ALWAYS {
          constexpr int kIndex = 4 * part + i;
          step(i, 0, step_codes<V, Bits, kIndex>(lines), column);
          step(i, 1, step_codes<V, Bits, kIndex>(lines + kLine), column);
          column += kStep;
        });
        end(2 * block + part);
      });
    }
    return;
  }
  const std::int64_t per_group = shape.group_blocks() / blocks;
  std::int64_t segment = 0;
  for (std::int64_t group = 0; group < shape.groups(); ++group) {
    enter(first_group + group);
    for (std::int64_t in_group = 0; in_group < per_group; ++in_group, ++segment) {
      begin(segment);
      for (std::int64_t block = 0; block < blocks; ++block, lines += 2 * Bits * kLine) {
        prefetch_ahead<V, 2 * Bits>(lines);
        unrolled<8>([&](auto i) EQNET_ALWAYS {
          step(i, 0, step_codes<V, Bits, i>(lines), column);
          step(i, 1, step_codes<V, Bits, i>(lines + kLine), column);
          column += kStep;
        });
      }
      end(segment);
    }
  }
}

template <class V, int Bits, int Rows>
void multiply(const Panels& weights, std::int64_t panel, const Int8Rows& x, float* sums) {
  using Int = typename V::Int;
  using Float = typename V::Float;
  constexpr int kChains = Rows >= V::kChains ? 1 : V::kChains / (2 * Rows) > 1 ? V::kChains / (2 * Rows) : 1;
  Int sum[Rows][2][kChains];
  Float total[Rows][2];
  each_half<Rows>([&](auto m, auto half) EQNET_ALWAYS { total[m][half] = V::zero_float(); });
  Float scale[2] = {V::zero_float(), V::zero_float()};
  Int zeros[2] = {V::zero(), V::zero()};
  walk<V, Bits>(
      weights, panel, x.segments.blocks,
      [&](std::int64_t group) EQNET_ALWAYS {
        unrolled<2>([&](auto half) EQNET_ALWAYS {
          const std::int64_t from = group * kPanel + half * kHalf;
          scale[half] = load_scale<V>(weights.scales, weights.scale_type, from);
          if (weights.zeros != nullptr) zeros[half] = V::widen(weights.zeros + from);
        });
      },
      [&](std::int64_t segment) EQNET_ALWAYS {
        unrolled<Rows>([&](auto m) EQNET_ALWAYS {
          // Codes are unsigned: 2^(Bits - 1) times the sum of x is too much if they are symmetric.
          const auto start = weights.zeros == nullptr
                                 ? V::set(x.minus_sum[m * x.segments.count + segment] * (1 << (Bits - 1)))
                                 : V::zero();
          unrolled<2>([&](auto half) EQNET_ALWAYS {
            sum[m][half][0] = start;
            unrolled<kChains - 1>([&](auto c) EQNET_ALWAYS { sum[m][half][c + 1] = V::zero(); });
          });
        });
      },
      [&](auto i, auto half, Int codes, std::int64_t column) EQNET_ALWAYS {
        unrolled<Rows>([&](auto m) EQNET_ALWAYS {
          sum[m][half][i % kChains] = V::template dot<(Bits > 7)>(sum[m][half][i % kChains], codes,
                                                                  V::broadcast_step(x.values + m * x.stride + column));
        });
      },
      [&](std::int64_t segment) EQNET_ALWAYS {
        each_half<Rows>([&](auto m, auto half) EQNET_ALWAYS {
          const std::int64_t at = m * x.segments.count + segment;
          Int all = sum[m][half][0];
          unrolled<kChains - 1>([&](auto c) EQNET_ALWAYS { all = V::add(all, sum[m][half][c + 1]); });
          if (weights.zeros != nullptr) all = V::add_product(all, zeros[half], x.minus_sum[at]);
          total[m][half] =
              V::multiply_add(V::to_float(all), V::multiply(scale[half], V::set_float(x.scale[at])), total[m][half]);
        });
      });
  each_half<Rows>([&](auto m, auto half)
                      EQNET_ALWAYS { V::store_float(sums + m * kPanel + half * kHalf, total[m][half]); });
}

template <class V, int Bits>
void unpack(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count, float* tile) {
  using Float = typename V::Float;
  const PanelShape& shape = weights.shape;
  const std::int64_t first_group = panel * shape.scale_groups();
  const std::int64_t per_group = shape.group_blocks();
  const bool halves = shape.half_blocks();
  const std::uint8_t* lines = weights.codes + panel * shape.panel_bytes() + first * shape.block_bytes();
  Float scale[2] = {V::zero_float(), V::zero_float()};
  Float zeros[2] = {V::zero_float(), V::zero_float()};
  const auto enter = [&](std::int64_t group) EQNET_ALWAYS {
    unrolled<2>([&](auto half) EQNET_ALWAYS {
      const std::int64_t from = (first_group + group) * kPanel + half * kHalf;
      scale[half] = load_scale<V>(weights.scales, weights.scale_type, from);
      zeros[half] = weights.zeros == nullptr
                        ? V::zero_float()
                        : V::subtract(V::to_float(V::widen(weights.zeros + from)), V::set_float(1 << (Bits - 1)));
    });
  };
  for (std::int64_t block = first; block < first + count; ++block, lines += 2 * Bits * kLine) {
    prefetch_ahead<V, 2 * Bits>(lines);
    unrolled<8>([&](auto i) EQNET_ALWAYS {
      if (i == 0) enter(halves ? 2 * block : block / per_group);
      if (i == kSteps / 2 && halves) enter(2 * block + 1);
      unrolled<2>([&](auto half) EQNET_ALWAYS {
        const auto centered = V::template centered<Bits>(step_codes<V, Bits, i>(lines + half * kLine));
        unrolled<4>([&](auto t) EQNET_ALWAYS {
          const Float weight = V::template column<Bits, t>(centered);
          V::store_float(tile + t * kPanel + half * kHalf, V::multiply(V::subtract(weight, zeros[half]), scale[half]));
        });
      });
      tile += kStep * kPanel;
    });
  }
}

template <class V, int Rows>
void gemm_float(const float* tile, std::int64_t cols, const float* x, std::int64_t stride, float* sums) {
  using Float = typename V::Float;
  Float sum[Rows][2];
  each_half<Rows>([&](auto r, auto half) EQNET_ALWAYS { sum[r][half] = V::zero_float(); });
  for (std::int64_t column = 0; column < cols; ++column, tile += kPanel) {
    const Float low = V::load_float(tile);
    const Float high = V::load_float(tile + kHalf);
    unrolled<Rows>([&](auto r) EQNET_ALWAYS {
      const Float value = V::set_float(x[r * stride + column]);
      sum[r][0] = V::multiply_add(low, value, sum[r][0]);
      sum[r][1] = V::multiply_add(high, value, sum[r][1]);
    });
  }
  // Added as a whole: sums of sums lose less than one long sum.
  each_half<Rows>([&](auto r, auto half) EQNET_ALWAYS {
    float* at = sums + r * kPanel + half * kHalf;
    V::store_float(at, V::add(V::load_float(at), sum[r][half]));
  });
}

template <class V>
constexpr LinearKernels kernel_table(Isa isa) {
  LinearKernels table{};
  table.isa = isa;
  table.tiles = V::kTiles;
  table.digit_rows = V::kDigitRows;
  table.float_tile_rows = V::kFloatTileRows;
  table.quantize = quantize<V>;
  table.split = split<V>;
  unrolled<7>([&](auto i) EQNET_ALWAYS {
    constexpr int kBits = i + 2;
    unrolled<V::kTiles>([&](auto tile)
                            EQNET_ALWAYS { table.multiply[kBits][tile] = multiply<V, kBits, kTileRows[tile]>; });
    table.unpack[kBits] = unpack<V, kBits>;
  });
  unrolled<V::kFloatTileRows>([&](auto i) EQNET_ALWAYS { table.gemm_float[i + 1] = gemm_float<V, i + 1>; });
  return table;
}

}  // namespace
}  // namespace eqnet
