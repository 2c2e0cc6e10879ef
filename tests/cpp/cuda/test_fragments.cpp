// What lanes unpack of a tile: each code, less its zero point, at the place that tensor cores want it at.

#include "cases.h"
#include "cuda/fragments.h"

namespace {

using namespace eqnet::cuda;

// out: [4 steps, 4 m, 4 registers, 32 lanes] of the first tile. One warp.
template <typename T, int kBits>
__global__ void unpack_tile(Tiles weight, unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  Lines<kBits> lines;
  load_lines(lines, weight.codes, lane);
  UNROLL
  for (int step = 0; step < eqnet::kTileSteps; ++step) {
    const uint2 zeros = load_zeros<kBits>(weight, 0, step / weight.group_steps, lane);
    UNROLL
    for (int m = 0; m < 4; ++m) {
      const unsigned four = m < 2 ? zeros.x : zeros.y;
      unsigned a[4];
      unpack<T, kBits>(lines, step, m, offset_of<T, kBits>(four, m % 2 * 2), offset_of<T, kBits>(four, m % 2 * 2 + 1),
                       a);
      UNROLL
      for (int i = 0; i < 4; ++i) store(out + ((step * 4 + m) * 4 + i) * 32 + lane, a[i]);
    }
  }
}

template <typename T, int kBits>
void unpacks() {
  for (const bool symmetric : {true, false}) {
    const cases::Weight weight({kBits, 16, symmetric, EQNET_FLOAT32}, 64, 64);
    const cases::Buffer<unsigned> out("out", 4 * 4 * 4 * 32);
    Recorder recorder;
    launch("unpack_tile", unpack_tile<T, kBits>, 1, 32, 0, &recorder, Tiles::of(weight.given()), out.address());
    cases::expect_clean("unpack_tile", recorder.reports);
    EXPECT(recorder.reports[0].traffic.uncoalesced() == 0, "%lld",
           static_cast<long long>(recorder.reports[0].traffic.uncoalesced()));
    const std::vector<unsigned> registers = out.values();
    for (int row = 0; row < 64; ++row) {
      for (int col = 0; col < 64; ++col) {
        // The PTX manual's table for a of m16n8k16.
        const int lane = row % 8 * 4 + col % 8 / 2, i = row % 16 / 8 + col % 16 / 8 * 2;
        const unsigned both = registers[static_cast<std::size_t>(((col / 16 * 4 + row / 16) * 4 + i) * 32 + lane)];
        const T got{static_cast<std::uint16_t>(both >> (col % 2 * 16))};
        EXPECT(static_cast<double>(cases::widen(got)) == weight.code(row, col), "%d bits, (%d, %d): %g, not %d", kBits,
               row, col, static_cast<double>(cases::widen(got)), weight.code(row, col));
      }
    }
  }
}

template <typename T>
void unpacks_all() {
  unpacks<T, 2>();
  unpacks<T, 3>();
  unpacks<T, 4>();
  unpacks<T, 5>();
  unpacks<T, 6>();
  unpacks<T, 7>();
  unpacks<T, 8>();
}

TEST(fragments_half) { unpacks_all<half>(); }
TEST(fragments_bfloat16) { unpacks_all<__nv_bfloat16>(); }

}  // namespace
