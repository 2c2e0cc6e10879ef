#include <arm_neon.h>

#include "loops.inl.h"

namespace eqnet {
namespace {

struct Neon {
  using Int = int32x4_t;
  using Float = float32x4_t;
  static constexpr int kRegisters = 16;

  static Int load_line(const std::uint8_t* p) {
    const auto* parts = reinterpret_cast<const std::int32_t*>(p);
    return veorq_s32(veorq_s32(vld1q_s32(parts), vld1q_s32(parts + 4)),
                     veorq_s32(vld1q_s32(parts + 8), vld1q_s32(parts + 12)));
  }
  static Int both(Int a, Int b) { return veorq_s32(a, b); }
  static Int dot(Int sums, Int a, Int b) {
    return vdotq_s32(sums, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
  }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static Int integers(int x) { return vdupq_n_s32(x); }
  static Float floats(float x) { return vdupq_n_f32(x); }
  static std::uint64_t first(Int x) { return vgetq_lane_u64(vreinterpretq_u64_s32(x), 0); }
  static std::uint64_t first(Float x) { return vgetq_lane_u64(vreinterpretq_u64_f32(x), 0); }
};

}  // namespace

extern const RooflineLoops kRooflineNeon;
const RooflineLoops kRooflineNeon = roofline_loops<Neon>(Isa::kNeon);

}  // namespace eqnet
