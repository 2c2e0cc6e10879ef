// From 32-bit sums to codes and floating point, with NEON. To be included by files compiled for it.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels.h"

namespace eqnet::conv {
namespace {

constexpr int kQuarter = 4;          // values of a vector; four vectors are a panel
constexpr float kAboveCodes = 1e6f;  // and far from overflowing an integer

// 16 values of one pixel.
struct Values {
  float32x4_t part[4];
};

// The codes of 16 values. If Scaled, they are in units of the code already.
template <bool Scaled>
inline uint8x16_t codes(const Values& x, const Coding& coding) {
  const auto integers = [&](float32x4_t part) {
    const float32x4_t scaled = Scaled ? part : vmulq_n_f32(part, coding.inverse_scale);
    return vqmovn_s32(vcvtnq_s32_f32(vminq_f32(scaled, vdupq_n_f32(kAboveCodes))));
  };
  const int16x8_t zero = vdupq_n_s16(static_cast<std::int16_t>(coding.zero));
  const int16x8_t low = vqaddq_s16(vcombine_s16(integers(x.part[0]), integers(x.part[1])), zero);
  const int16x8_t high = vqaddq_s16(vcombine_s16(integers(x.part[2]), integers(x.part[3])), zero);
  const uint8x16_t bytes = vcombine_u8(vqmovun_s16(low), vqmovun_s16(high));
  return vminq_u8(vmaxq_u8(bytes, vdupq_n_u8(coding.low)), vdupq_n_u8(coding.high));
}

// Copies the first `count` of 16 elements.
template <class T>
inline void copy(const T* from, int count, T* to) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
}

inline void store(uint8x16_t bytes, std::uint8_t* to, int channels) {
  if (channels == kLanes) return vst1q_u8(to, bytes);
  std::uint8_t all[kLanes];
  vst1q_u8(all, bytes);
  copy(all, channels, to);
}

inline Values load(const float* from, int channels) {
  float all[kLanes] = {};
  if (channels < kLanes) {
    copy(from, channels, all);
    from = all;
  }
  return {{vld1q_f32(from), vld1q_f32(from + 4), vld1q_f32(from + 8), vld1q_f32(from + 12)}};
}

inline void store(const Values& x, const Finish& finish, float* to, int channels) {
  float all[kLanes];
  float* out = channels < kLanes ? all : to;
  for (int q = 0; q < 4; ++q) {
    const float32x4_t bounded = vminq_f32(vmaxq_f32(x.part[q], vdupq_n_f32(finish.low)), vdupq_n_f32(finish.high));
    vst1q_f32(out + q * kQuarter, bounded);
  }
  if (channels < kLanes) copy(all, channels, to);
}

// Scales the sums of 16 channels of pixel i, and writes them; `channels` of them count.
inline void finish_panel(const int32x4_t (&sum)[4], Values x, const float* multiplier, const Output& out, int i,
                         int channels) {
  const Finish& finish = *out.finish;
  for (int q = 0; q < 4; ++q) {
    x.part[q] = vfmaq_f32(x.part[q], vcvtq_f32_s32(sum[q]), vld1q_f32(multiplier + q * kQuarter));
  }
  if (finish.scaled) return store(codes<true>(x, finish.coding[0]), out.code[0][i], channels);
  if (finish.has_residual) {
    const Values residual = load(out.residual[i], channels);
    for (int q = 0; q < 4; ++q) x.part[q] = vaddq_f32(x.part[q], residual.part[q]);
  }
  if (finish.has_value) store(x, finish, out.value[i], channels);
  for (int t = 0; t < finish.targets; ++t) {
    store(codes<false>(x, finish.coding[t]), out.code[t][i], channels);
  }
}

}  // namespace
}  // namespace eqnet::conv
