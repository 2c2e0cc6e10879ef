// Every width, granularity, symmetry and type of activations, with every number of tokens that a kernel treats in its own
// way, in shapes that are awkward: as the library is called.

#include "cases.h"

namespace {

using eqnet::cuda::Recorder;

struct Shape {
  std::int64_t rows, cols;
};

template <typename T>
void expect_every(const cases::Weight& weight) {
  const eqnet_cuda_weight given = weight.given();
  const std::int64_t rows = weight.shape.rows, cols = weight.shape.cols;
  std::vector<float> added;
  for (std::int64_t row = 0; row < rows; ++row) added.push_back(0.25f * static_cast<float>(row % 9) - 1.0f);
  const cases::Buffer<const float> bias("bias", added);
  for (const std::int64_t tokens : {1, 2, 7, 8, 9, 16, 17, 64, 65}) {
    const std::vector<T> values = cases::draw<T>(tokens * cols, static_cast<unsigned>(tokens));
    const cases::Buffer<const T> x("x", values);
    const cases::Buffer<T> y("y", static_cast<std::size_t>(tokens * rows));
    std::int64_t bytes = -1, count = -1;
    EXPECT(eqnet_cuda_linear_needs(&given, cases::kElement<T>, tokens, &bytes, &count) == EQNET_CUDA_OK, "%s",
           eqnet_cuda_message());
    const cases::Buffer<unsigned char> memory("memory", static_cast<std::size_t>(bytes));
    const cases::Buffer<std::uint32_t> counters("counters", std::vector<std::uint32_t>(static_cast<std::size_t>(count)));
    Recorder recorder;
    EXPECT(eqnet_cuda_linear(&given, x.address(), cases::kElement<T>, tokens, bias.address(), EQNET_NO_ACTIVATION,
                             y.address(), memory.address(), counters.address(), &recorder) == EQNET_CUDA_OK,
           "%s", eqnet_cuda_message());
    cases::expect_clean("linear", recorder.reports);
    EXPECT(y.unwritten_bytes() == 0, "%zu", y.unwritten_bytes());
    // Products with many tokens may round weights to the type of activations.
    cases::expect_product("linear", weight, values, tokens, added, y.values(), cases::kUnit<T>);
  }
}

void expect_every(int bits) {
  // One row and less than a step; a row more than a tile and a short last group; whole tiles; neither.
  constexpr Shape kShapes[] = {{1, 13}, {65, 100}, {64, 192}, {33, 149}};
  for (const cases::Format& format : cases::formats()) {
    if (format.bits != bits) continue;
    for (const Shape& shape : kShapes) {
      const cases::Weight weight(format, shape.rows, shape.cols);
      expect_every<half>(weight);
      expect_every<__nv_bfloat16>(weight);
    }
  }
}

TEST(every_of_2_bits) { expect_every(2); }
TEST(every_of_3_bits) { expect_every(3); }
TEST(every_of_4_bits) { expect_every(4); }
TEST(every_of_5_bits) { expect_every(5); }
TEST(every_of_6_bits) { expect_every(6); }
TEST(every_of_7_bits) { expect_every(7); }
TEST(every_of_8_bits) { expect_every(8); }

}  // namespace
