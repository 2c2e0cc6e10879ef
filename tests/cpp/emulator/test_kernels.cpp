// Correct kernels compute what they should and give no report; what they read is counted.

#include <cmath>
#include <random>
#include <vector>

#include "findings.h"
#include "kernels.h"

namespace {

constexpr double kSumError = 1e-5;      // of the sum of magnitudes: float32, in some order
constexpr double kProductError = 1e-5;  // the same for products, which are exact

TEST(kernels_sum) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int count : {0, 1, 31, 257, 10000}) {
    std::vector<float> x(static_cast<std::size_t>(count));
    double sum = 0, magnitudes = 0;
    for (float& value : x) {
      value = normal(random);
      sum += value;
      magnitudes += std::fabs(value);
    }
    for (const bool backwards : {false, true}) {
      const Buffer<const float> input("x", x);
      const Buffer<float> output("sum", std::vector<float>{0});
      const Report report = run({"add_up", 3, kernels::kSumThreads, 0, backwards}, kernels::add_up, input.address(),
                                count, output.address());
      expect_clean(report);
      const double got = output.values()[0];
      EXPECT(std::fabs(got - sum) <= kSumError * magnitudes, "%g, not %g", got, sum);
      EXPECT(input.read_bytes() == (count * 4 + 31) / 32 * 32, "%lld bytes",
             static_cast<long long>(input.read_bytes()));
    }
  }
}

template <typename T>
void scale_and_shift() {
  std::vector<T> x;
  for (int i = 0; i < 8 * 70; ++i) x.push_back(eqnet::cuda::from_float<T>(static_cast<float>(i - 200)));
  const Buffer<const T> input("x", x);
  const Buffer<T> output("y", x.size());
  const T half_of = eqnet::cuda::from_float<T>(0.5f);
  const Report report = run({"scale_and_shift", 2, 64}, kernels::scale_and_shift<T>, input.address(), half_of, 16.0f,
                            output.address(), 70);
  expect_clean(report);
  EXPECT(report.traffic.uncoalesced() == 0, "%lld", static_cast<long long>(report.traffic.uncoalesced()));
  const std::vector<T> y = output.values();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const T want = eqnet::cuda::from_float<T>(eqnet::cuda::to_float(x[i]) / 2 + 16);  // halves of these are exact
    EXPECT(y[i].bits == want.bits, "%zu: %g", i, static_cast<double>(eqnet::cuda::to_float(y[i])));
  }
}

TEST(kernels_scale_and_shift) {
  scale_and_shift<half>();
  scale_and_shift<__nv_bfloat16>();
}

template <typename T>
void multiply(int rows, int cols, int depth) {
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  const auto draw = [&](int count) {
    std::vector<T> values;
    for (int i = 0; i < count; ++i) values.push_back(narrow<T>(normal(random)));
    return values;
  };
  const std::vector<T> x = draw(rows * depth), w = draw(cols * depth);
  const Buffer<const T> x_buffer("x", x), w_buffer("w", w);
  const Buffer<float> y_buffer("y", static_cast<std::size_t>(rows * cols));
  const dim3 grid(static_cast<unsigned>(cols / 8), static_cast<unsigned>(rows / 16));
  const Report report = run({"multiply", grid, 32}, kernels::multiply<T>, x_buffer.address(), w_buffer.address(),
                            y_buffer.address(), cols, depth);
  expect_clean(report);
  EXPECT(report.traffic.bank_conflicts == 0, "%lld", static_cast<long long>(report.traffic.bank_conflicts));
  EXPECT(report.traffic.uncoalesced() == 0, "%lld", static_cast<long long>(report.traffic.uncoalesced()));
  EXPECT(report.matrix_flops == 2LL * rows * cols * depth, "%lld", static_cast<long long>(report.matrix_flops));
  EXPECT(y_buffer.unwritten_bytes() == 0, "%zu", y_buffer.unwritten_bytes());
  // Each tile of the result reads its rows of both.
  const long long x_bytes = x_buffer.read_bytes(), w_bytes = w_buffer.read_bytes(), y_bytes = y_buffer.write_bytes();
  EXPECT(x_bytes == 2LL * rows * depth * (cols / 8), "%lld", x_bytes);
  EXPECT(w_bytes == 2LL * cols * depth * (rows / 16), "%lld", w_bytes);
  EXPECT(y_bytes == 4LL * rows * cols, "%lld", y_bytes);
  const std::vector<float> y = y_buffer.values();
  for (int row = 0; row < rows; ++row) {
    for (int col = 0; col < cols; ++col) {
      double sum = 0, magnitudes = 0;
      for (int k = 0; k < depth; ++k) {
        const double product = static_cast<double>(widen(x[static_cast<std::size_t>(row * depth + k)])) *
                               static_cast<double>(widen(w[static_cast<std::size_t>(col * depth + k)]));
        sum += product;
        magnitudes += std::fabs(product);
      }
      const double got = static_cast<double>(y[static_cast<std::size_t>(row * cols + col)]);
      EXPECT(std::fabs(got - sum) <= kProductError * magnitudes, "(%d, %d): %g, not %g", row, col, got, sum);
    }
  }
}

TEST(kernels_multiply) {
  multiply<half>(16, 8, 16);
  multiply<half>(32, 24, 112);
  multiply<__nv_bfloat16>(16, 8, 32);
  multiply<__nv_bfloat16>(48, 16, 80);
}

}  // namespace
