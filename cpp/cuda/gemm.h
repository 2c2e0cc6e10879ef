// Products with many tokens, on tensor cores.
//
// Each warp multiplies tiles of the weight, as operands a, with its tokens, as operands b, and keeps the sums in
// registers. Codes and activations come to shared memory by asynchronous copies, some stages ahead, and over the ends
// of units: while one is finished and stored, the next one is on its way.
//
// One scale a channel multiplies the sums in the end. Those of groups multiply the weights, in 16 bits: 16 instructions
// a step, whatever the number of tokens. Sums of a group by themselves would take as many registers again, and two
// instructions for each of 4 to 16 registers every group, which is less only where groups are of 128 and more columns
// and tokens are 16. One scale a channel takes the same way, with scales of 1, which is exact.
#pragma once

#include "dispatch.h"
#include "fragments.h"
#include "gemm_end.h"
#include "gemm_work.h"

namespace eqnet::cuda {

// What a step needs of a tile beside its codes: of each m, the scales of channels 16·m + g and 16·m + g + 8, and
// their zero points in one byte each.
struct Factors {
  unsigned scales[4];
  unsigned zeros[2];
};

template <typename T>
constexpr unsigned kOnes = std::is_same_v<T, half> ? 0x3c003c00u : 0x3f803f80u;

template <typename T>
constexpr int kOwnType = std::is_same_v<T, half> ? EQNET_FLOAT16 : EQNET_BFLOAT16;

// Scales of another type as T. from: the first one of the lane.
template <typename T>
__device__ __forceinline__ void convert_scales(unsigned (&scales)[4], const unsigned char* from, int type) {
  const Scales all = scales_at(from, type, 0);
  UNROLL
  for (int i = 0; i < 4; ++i) {
    scales[i] = reinterpret<unsigned>(from_floats<T>(all.values[2 * i], all.values[2 * i + 1]));
  }
}

// Operand a of step and m, times its scales.
template <typename T, int kBits>
__device__ __forceinline__ void unpack_scaled(const Lines<kBits>& lines, int step, int m, const Factors& factors,
                                              unsigned (&a)[4]) {
  const unsigned zeros = factors.zeros[m / 2], scales = factors.scales[m];
  unpack<T, kBits>(lines, step, m, offset_of<T, kBits>(zeros, m % 2 * 2), offset_of<T, kBits>(zeros, m % 2 * 2 + 1), a);
  const unsigned of_rows[2] = {__byte_perm(scales, 0, 0x1010), __byte_perm(scales, 0, 0x3232)};
  UNROLL
  for (int i = 0; i < 4; ++i) {
    a[i] = reinterpret<unsigned>(__hmul2(reinterpret<Pair<T>>(a[i]), reinterpret<Pair<T>>(of_rows[i % 2])));
  }
}

// The lines of a plane whose first words are those of a step. from: 16 bytes of the lane in the first line of the tile.
template <int kBits, int kWidth>
__device__ __forceinline__ void read_plane(Lines<kBits>& lines, int step, const unsigned char* from) {
  if constexpr ((kBits & kWidth) != 0) {
    constexpr int kFirst = kBits & ~(2 * kWidth - 1);  // lines of wider planes
    UNROLL
    for (int i = 0; i < kWidth; ++i) {
      if (i * 4 / kWidth != step) continue;
      const uint4 four = load(reinterpret_cast<const uint4*>(from + (kFirst + i) * static_cast<int>(kLineBytes)));
      lines.words[4 * (kFirst + i)] = four.x;
      lines.words[4 * (kFirst + i) + 1] = four.y;
      lines.words[4 * (kFirst + i) + 2] = four.z;
      lines.words[4 * (kFirst + i) + 3] = four.w;
    }
  }
}

template <int kBits>
__device__ __forceinline__ void read_lines(Lines<kBits>& lines, int step, const unsigned char* from) {
  read_plane<kBits, 8>(lines, step, from);
  read_plane<kBits, 4>(lines, step, from);
  read_plane<kBits, 2>(lines, step, from);
  read_plane<kBits, 1>(lines, step, from);
}

// One warp of the product. Units are finished by all warps of the block at the same time.
template <typename T, int kBits, int kTokens>
class GemmWarp {
  static constexpr int kWide = kTokens / 8;  // operands b of a step
  static constexpr int kReadAt = kWide == 4 ? 0 : 3;

 public:
  __device__ __forceinline__ GemmWarp(const Product<T>& product, const GemmPlan& plan, unsigned char* slots)
      : product_(product),
        plan_(plan),
        slots_(slots),
        scales_(!plan.grouped ? kOne : product.weight.scale_type == kOwnType<T> ? kOwn : kOther),
        place_(plan.arrangement),
        tile_(place_.col << plan.arrangement.row_log | place_.row),
        panel_((place_.col << plan.arrangement.token_log | place_.tokens) * kTokens * kRowBytes) {
    // ldmatrix takes four matrices of 8 tokens by 8 columns: of 16 tokens the 16 columns of a step.
    const int lane = place_.lane, token = lane / 16 * 8 + lane % 8;
    row_of_b_ = panel_ + token * kRowBytes + (lane / 8 % 2 ^ lane % 8) * 16;
  }

  __device__ __forceinline__ void run() {
    int left = count_stages(plan_, static_cast<int>(blockIdx.x)), left_to_copy = left;
    Work copied{}, work{};
    Unit unit_to_copy{};
    const auto copy_next = [&](int slot) {
      if (left_to_copy > 0) {
        if (copied.stage == copied.end) {
          take_unit(plan_, copied);
          unit_to_copy = unit_of(plan_, copied);
        }
        copy(slots_ + slot, unit_to_copy, copied.stage);
        ++copied.stage;
        --left_to_copy;
      }
      cp_async_commit();
    };
    const int last_slot = (plan_.slots - 1) * plan_.slot_bytes;  // slots are known by where they begin
    ROLLED
    for (int slot = 0; slot < last_slot; slot += plan_.slot_bytes) copy_next(slot);

    int slot = 0, freed = last_slot;
    while (left > 0) {
      take_unit(plan_, work);
      left -= work.end - work.stage;
      wait();
      __syncthreads();
      Lines<kBits> lines;
      unsigned a[2][4], b[2][kWide / 2][4], groups = groups_of(work.stage);
      Factors factors = read(0, slots_ + slot, groups, lines, b[0]);
      unpack_scaled<T, kBits>(lines, 0, 0, factors, a[0]);
      bool more;
      ROLLED
      do {
        copy_next(freed);
        freed = slot;
        slot = slot == last_slot ? 0 : slot + plan_.slot_bytes;
        more = ++work.stage < work.end;
        UNROLL
        for (int step = 0; step < kTileSteps; ++step) {
          Lines<kBits> next_lines = lines;
          Factors next = factors;
          UNROLL
          for (int m = 0; m < 4; ++m) {
            // What the next step needs is read, and its first operand unpacked, while tensor cores are busy with this
            // one; with many tokens as late as that lasts long enough, for want of registers.
            if (m == kReadAt && step + 1 < kTileSteps) {
              next = read(step + 1, slots_ + freed, groups, next_lines, b[(step + 1) % 2]);
            } else if (m == kReadAt && more) {
              wait();
              __syncthreads();
              groups = groups_of(work.stage);
              next = read(0, slots_ + slot, groups, next_lines, b[0]);
            }
            UNROLL
            for (int n = 0; n < kWide; ++n) {
              const unsigned of_n[2] = {b[step % 2][n / 2][n % 2 * 2], b[step % 2][n / 2][n % 2 * 2 + 1]};
              mma<T>(sums_[m][n], a[m % 2], of_n);
            }
            if (m < 3) {
              unpack_scaled<T, kBits>(lines, step, m + 1, factors, a[(m + 1) % 2]);
            } else {
              unpack_scaled<T, kBits>(next_lines, (step + 1) % 4, 0, next, a[0]);
            }
          }
          lines = next_lines;
          factors = next;
        }
      } while (more);
      __syncthreads();
      finish(unit_of(plan_, work), slots_ + freed);
    }
  }

 private:
  static constexpr int kRowBytes = static_cast<int>(kTile) * 2;  // of a token, in a stage

  // The group of a step of all columns, by a product instead of a quotient: exact for as many steps as there can be.
  __device__ __forceinline__ int group_of(int step) const {
    return static_cast<int>(static_cast<unsigned long long>(step) * plan_.group_steps_inverse >> 31);
  }

  // Which of the groups that the tile of a stage meets those of its steps are, a byte each.
  __device__ __forceinline__ unsigned groups_of(int stage) const {
    const int first = 4 * (stage * plan_.arrangement.col_warps() + place_.col);
    const int group_steps = product_.weight.group_steps;
    if (group_steps == 1) return 0x03020100;
    if (group_steps == 2) return 0x01010000;
    const int left = group_steps - (first - group_of(first) * group_steps);  // steps of the first group
    return left >= 4 ? 0u : 0x01010101u << 8 * left;
  }

  // Until all stages have come but those in all slots but two.
  __device__ __forceinline__ void wait() const {
    switch (plan_.slots) {
      case 2:
        return cp_async_wait<0>();
      case 3:
        return cp_async_wait<1>();
      case 4:
        return cp_async_wait<2>();
      case 5:
        return cp_async_wait<3>();
      default:
        return cp_async_wait<4>();
    }
  }

  // Begins to copy a stage. What is missing becomes 0, and adds nothing.
  __device__ __forceinline__ void copy(unsigned char* slot, const Unit& unit, int stage) const {
    const Tiles& weight = product_.weight;
    const Arrangement& along = plan_.arrangement;
    const int lane = place_.lane, col_tile = stage * along.col_warps() + place_.col;
    const int row_tile = unit.row_block * along.row_warps() + place_.row;
    const bool has_columns = col_tile < weight.col_tiles, exists = has_columns && row_tile < weight.row_tiles;

    // Codes: warps that have the same tile share its lines.
    const long long tile = exists ? static_cast<long long>(row_tile) * weight.col_tiles + col_tile : 0;
    const uint4* codes = weight.codes + tile * (kBits * 32) + lane;
    unsigned char* lines = slot + plan_.tiles_at + tile_ * (kBits * static_cast<int>(kLineBytes)) + lane * 16;
    UNROLL
    for (int line = 0; line < kBits; ++line) {
      if ((line & (along.token_warps() - 1)) != place_.tokens) continue;
      cp_async<16>(lines + line * kLineBytes, codes + line * 32, exists ? 16 : 0);
    }

    // Scales and zero points of the groups that the tile meets.
    if (place_.tokens == 0 && (plan_.grouped || weight.zeros != nullptr)) {
      const int group = group_of(4 * col_tile), groups = exists ? group_of(4 * col_tile + 3) + 1 - group : 0;
      const long long first = exists ? (static_cast<long long>(row_tile) * weight.groups + group) * kTile : 0;
      unsigned char* factors = slot + plan_.factors_at + tile_ * (plan_.scale_bytes + plan_.zeros_bytes) + lane * 16;
      if (plan_.grouped) {
        const int size = weight.scale_type == EQNET_FLOAT32 ? 4 : 2, chunks = groups * size * 4;
        const unsigned char* scales = static_cast<const unsigned char*>(weight.scales) + first * size;
        ROLLED
        for (int i = lane; i < plan_.scale_bytes / 16; i += 32) {
          cp_async<16>(factors + (i - lane) * 16, scales + (i < chunks ? i * 16 : 0), i < chunks ? 16 : 0);
        }
      }
      if (weight.zeros != nullptr && lane < plan_.zeros_bytes / 16) {
        const bool has_zeros = lane < groups * 4;
        cp_async<16>(factors + plan_.scale_bytes, weight.zeros + first + (has_zeros ? lane * 16 : 0),
                     has_zeros ? 16 : 0);
      }
    }

    // Activations: 8 lanes a token. Those of one token are moved by its number, so that the same columns of 8 tokens,
    // which ldmatrix reads, meet all banks. Warps along rows share them.
    int four = place_.row, moved = lane % 8 ^ (lane / 8 + four % 2 * 4);
    const int token = (unit.token_block * along.token_warps() + place_.tokens) * kTokens + 4 * four + lane / 8;
    const long long columns = static_cast<long long>(weight.col_tiles) * kTile;
    const T* x = product_.x + token * columns + col_tile * kTile + lane % 8 * 8;
    int left = has_columns ? product_.tokens - token : 0;
    unsigned char* panel = slot + panel_ + (4 * four + lane / 8) * kRowBytes;
    ROLLED
    for (; four < kTokens / 4; four += along.row_warps()) {
      cp_async<16>(panel + moved * 16, x, left > 0 ? 16 : 0);
      left -= 4 * along.row_warps();
      x += 4 * along.row_warps() * columns;
      panel += 4 * along.row_warps() * kRowBytes;
      if (along.row_log == 0) moved ^= 4;
    }
  }

  // Reads what a step needs.
  __device__ __forceinline__ Factors read(int step, const unsigned char* slot, unsigned groups, Lines<kBits>& lines,
                                          unsigned (&b)[kWide / 2][4]) const {
    const unsigned char* row = slot + (row_of_b_ ^ step * 32);
    UNROLL
    for (int pair = 0; pair < kWide / 2; ++pair) ldmatrix(b[pair], row + pair * 16 * kRowBytes);
    read_lines(lines, step,
               slot + plan_.tiles_at + tile_ * (kBits * static_cast<int>(kLineBytes)) + place_.lane * 16);

    constexpr unsigned kMiddle = (1u << (kBits - 1)) * 0x01010101u;
    Factors factors{{kOnes<T>, kOnes<T>, kOnes<T>, kOnes<T>}, {kMiddle, kMiddle}};
    const unsigned char* from = slot + plan_.factors_at + tile_ * (plan_.scale_bytes + plan_.zeros_bytes);
    const int at = static_cast<int>(groups >> 8 * step & 0xff) * static_cast<int>(kTile) + place_.lane / 4 * 8;
    if (scales_ == kOwn) {
      const uint4 scales = load(reinterpret_cast<const uint4*>(from + at * 2));
      factors.scales[0] = scales.x;
      factors.scales[1] = scales.y;
      factors.scales[2] = scales.z;
      factors.scales[3] = scales.w;
    }
    if (product_.weight.zeros != nullptr) {
      const uint2 zeros = load(reinterpret_cast<const uint2*>(from + plan_.scale_bytes + at));
      factors.zeros[0] = zeros.x;
      factors.zeros[1] = zeros.y;
    }
    if (scales_ == kOther) {
      const int type = product_.weight.scale_type;
      convert_scales<T>(factors.scales, from + at * (type == EQNET_FLOAT32 ? 4 : 2), type);
    }
    return factors;
  }

  // Ends a unit. slot: one that is nobody's.
  __device__ __forceinline__ void finish(const Unit& unit, unsigned char* slot) {
    const Arrangement& along = plan_.arrangement;
    if (along.col_warps() > 1) add_columns(sums_, plan_, place_, reinterpret_cast<float4*>(slot));
    int* told = reinterpret_cast<int*>(slots_ + plan_.slots * plan_.slot_bytes);
    if (unit.rest < 0 || add_blocks(sums_, product_, plan_, place_, unit.rest, told)) {
      store_sums(sums_, product_, plan_, place_, unit.row_block * along.row_warps() + place_.row,
                 (unit.token_block * along.token_warps() + place_.tokens) * kTokens,
                 reinterpret_cast<float*>(slot) + place_.warp * kRoomFloats);
    }
    UNROLL
    for (int m = 0; m < 4; ++m) {
      UNROLL
      for (int n = 0; n < kWide; ++n) {
        UNROLL
        for (int i = 0; i < 4; ++i) sums_[m][n][i] = 0.0f;
      }
    }
  }

  const Product<T>& product_;
  const GemmPlan& plan_;
  unsigned char* const slots_;
  const enum { kOne, kOwn, kOther } scales_;  // one a channel, or groups', of the type of activations or of another one
  const GemmPlace place_;
  const int tile_, panel_;  // of a slot: the tile that the warp multiplies, and where its tokens' columns begin
  int row_of_b_;
  float sums_[4][kWide][4] = {};
};

template <typename T, int kBits, int kTokens>
__global__ void __launch_bounds__(kGemmThreads, processor_warps(kTokens) * 32 / kGemmThreads)
    gemm_kernel(const Product<T> product, const GemmPlan plan) {
  DYNAMIC_SHARED(unsigned char, slots);
  GemmWarp<T, kBits, kTokens>(product, plan, slots).run();
}

inline Needs needs_of(const GemmPlan& plan) {
  const bool in_parts = plan.stripes > plan.rest_units();
  return {in_parts ? 2 * plan.stripes * plan.part_bytes() : 0, in_parts ? plan.rest_units() : 0};
}

template <typename T>
void launch_gemm(const Product<T>& product, int bits, const GemmPlan& plan, Stream stream) {
  for_bits(bits, [&](auto width) {
    constexpr int kBits = decltype(width)::value;
    const int tokens = plan.arrangement.tokens;
    const auto kernel = tokens == 16   ? gemm_kernel<T, kBits, 16>
                        : tokens == 32 ? gemm_kernel<T, kBits, 32>
                                       : gemm_kernel<T, kBits, 64>;
    launch("gemm", kernel, static_cast<unsigned>(plan.blocks), plan.arrangement.warps() * 32, plan.shared_bytes(),
           stream, product, plan);
  });
}

inline Needs gemm_needs(const TileShape& shape, std::int64_t tokens, const Device& device) {
  return needs_of(plan_gemm(GemmSize::of(shape, tokens), device));
}

template <typename T>
void gemm(const Product<T>& product, int bits, const Device& device, Stream stream) {
  const Tiles& weight = product.weight;
  const GemmSize size{weight.row_tiles, weight.col_tiles, weight.groups, weight.group_steps, bits, product.tokens};
  launch_gemm(product, bits, plan_gemm(size, device), stream);
}

}  // namespace eqnet::cuda
