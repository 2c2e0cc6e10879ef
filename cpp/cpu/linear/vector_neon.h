// 16 lanes of 32 bits in four NEON registers, with the dot products of ARMv8.2.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace eqnet {
namespace {

struct Neon {
  struct Int {
    int32x4_t part[4];
  };
  struct Float {
    float32x4_t part[4];
  };

  static constexpr int kTiles = 2;
  static constexpr int kDigitRows = 1;
  static constexpr int kFloatTileRows = 3;
  static constexpr int kChains = 1;

  template <class Body>
  static Int ints(const Body& body) {
    return {{body(0), body(1), body(2), body(3)}};
  }
  template <class Body>
  static Float floats(const Body& body) {
    return {{body(0), body(1), body(2), body(3)}};
  }

  static Int load(const void* p) {
    return ints([&](int i) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const std::uint8_t*>(p) + 16 * i)); });
  }
  static void store(void* p, Int x) {
    for (int i = 0; i < 4; ++i) vst1q_u8(static_cast<std::uint8_t*>(p) + 16 * i, vreinterpretq_u8_s32(x.part[i]));
  }
  static Int zero() { return set(0); }
  static Int set(std::int32_t x) {
    return ints([&](int) { return vdupq_n_s32(x); });
  }
  static Int set_byte(std::uint8_t x) {
    return ints([&](int) { return vreinterpretq_s32_u8(vdupq_n_u8(x)); });
  }
  // 16 unsigned bytes to 16 lanes.
  static Int widen(const std::uint8_t* p) {
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
             vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
             vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
  }
  static Int add(Int a, Int b) {
    return ints([&](int i) { return vaddq_s32(a.part[i], b.part[i]); });
  }
  static Int both(Int a, Int b) {
    return ints([&](int i) { return vandq_s32(a.part[i], b.part[i]); });
  }
  // a | (b & mask)
  static Int merge(Int a, Int b, Int mask) {
    return ints([&](int i) { return vorrq_s32(a.part[i], vandq_s32(b.part[i], mask.part[i])); });
  }
  // Shifts of 32-bit lanes; negative is to the left.
  template <int N>
  static Int shift_right(Int x) {
    return ints([&](int i) {
      const uint32x4_t word = vreinterpretq_u32_s32(x.part[i]);
      if constexpr (N > 0) return vreinterpretq_s32_u32(vshrq_n_u32(word, N));
      if constexpr (N < 0) return vreinterpretq_s32_u32(vshlq_n_u32(word, -N));
      return x.part[i];
    });
  }

  // Sums of products of 4 bytes, unsigned times signed. Wide says that the unsigned ones may exceed 127.
  template <bool Wide>
  static Int dot(Int sum, Int u, Int s) {
    return ints([&](int i) {
      const int8x16_t signed_ones = vreinterpretq_s8_s32(s.part[i]);
      const int8x16_t codes = vreinterpretq_s8_s32(u.part[i]);
      if constexpr (!Wide) return vdotq_s32(sum.part[i], codes, signed_ones);
      // u = (u - 128) + 64 + 64, each of which is a signed byte
      const int8x16_t moved = veorq_s8(codes, vdupq_n_s8(static_cast<std::int8_t>(0x80)));
      const int8x16_t half = vdupq_n_s8(64);
      const int32x4_t rest = vdotq_s32(vdotq_s32(sum.part[i], half, signed_ones), half, signed_ones);
      return vdotq_s32(rest, moved, signed_ones);
    });
  }
  static Int broadcast_step(const std::int8_t* p) {
    std::int32_t word;
    __builtin_memcpy(&word, p, 4);
    return set(word);
  }
  // sum + zeros * minus_sum
  static Int add_product(Int sum, Int zeros, std::int32_t minus_sum) {
    return ints([&](int i) { return vmlaq_n_s32(sum.part[i], zeros.part[i], minus_sum); });
  }

  static Float zero_float() { return set_float(0.0f); }
  static Float set_float(float x) {
    return floats([&](int) { return vdupq_n_f32(x); });
  }
  static Float load_float(const float* p) {
    return floats([&](int i) { return vld1q_f32(p + 4 * i); });
  }
  static void store_float(float* p, Float x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.part[i]);
  }
  static Float to_float(Int x) {
    return floats([&](int i) { return vcvtq_f32_s32(x.part[i]); });
  }
  static Int to_int(Float x) {  // half to even
    return ints([&](int i) { return vcvtnq_s32_f32(x.part[i]); });
  }
  static Float multiply(Float a, Float b) {
    return floats([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
  }
  static Float subtract(Float a, Float b) {
    return floats([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
  }
  static Float add(Float a, Float b) {
    return floats([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
  }
  static Float multiply_add(Float a, Float b, Float c) {
    return floats([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
  }
  static Float from_half(const std::uint16_t* p) {
    return floats([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
  }
  static Float from_bfloat(const std::uint16_t* p) {
    return floats([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
  }
  static Float max_magnitude(Float a, Float b) {
    return floats([&](int i) { return vmaxnmq_f32(a.part[i], vabsq_f32(b.part[i])); });
  }
  static float largest_magnitude(Float x) {
    const Float most = max_magnitude(zero_float(), x);
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(most.part[0], most.part[1]), vmaxq_f32(most.part[2], most.part[3])));
  }
  static float sum_float(Float x) {
    return vaddvq_f32(vaddq_f32(vaddq_f32(x.part[0], x.part[1]), vaddq_f32(x.part[2], x.part[3])));
  }
  static std::int32_t sum(Int x) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(x.part[0], x.part[1]), vaddq_s32(x.part[2], x.part[3])));
  }
  // The lowest byte of each lane, signed, and what is left above it once it is taken away.
  static Int low_byte(Int x) {
    return ints([&](int i) { return vshrq_n_s32(vshlq_n_s32(x.part[i], 24), 24); });
  }
  static Int drop_byte(Int x, Int low) {
    return ints([&](int i) { return vshrq_n_s32(vsubq_s32(x.part[i], low.part[i]), 8); });
  }
  // The lanes, which fit, as 16 signed bytes.
  static void store_bytes(std::int8_t* p, Int x) {
    const int16x8_t low = vcombine_s16(vmovn_s32(x.part[0]), vmovn_s32(x.part[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(x.part[2]), vmovn_s32(x.part[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
  }
  static inline __attribute__((always_inline)) void prefetch(const void* p) { __builtin_prefetch(p); }

  // From the clean codes of one step to the floats of its column T: code - 2^(Bits - 1).
  template <int Bits>
  static Int centered(Int codes) {
    return ints([&](int i) {
      const uint8x16_t half = vdupq_n_u8(1 << (Bits - 1));
      return vreinterpretq_s32_u8(vsubq_u8(vreinterpretq_u8_s32(codes.part[i]), half));
    });
  }
  template <int Bits, int T>
  static Float column(Int centered) {
    const Int top = shift_right<8 * T - 24>(centered);
    return floats([&](int i) { return vcvtq_f32_s32(vshrq_n_s32(top.part[i], 24)); });
  }
};

}  // namespace
}  // namespace eqnet
