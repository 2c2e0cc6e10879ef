// Every width, granularity, symmetry and type of activations, with every number of tokens that a kernel treats in its own
// way, in shapes that are awkward: as the library is called.

#include "called.h"

namespace {

struct Shape {
  std::int64_t rows, cols;
};

template <typename T>
void expect_every(const cases::Weight& weight) {
  const std::vector<float> bias = cases::some_bias(weight.shape.rows);
  for (const std::int64_t tokens : {1, 2, 7, 8, 9, 16, 17, 64, 65}) {
    const std::vector<T> x = cases::draw<T>(tokens * weight.shape.cols, static_cast<unsigned>(tokens));
    const std::vector<T> y = cases::linear(weight, x, tokens, bias, EQNET_NO_ACTIVATION).y;
    // Products with many tokens may round weights to the type of activations.
    cases::expect_product("linear", weight, x, tokens, bias, y, cases::kUnit<T>);
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
