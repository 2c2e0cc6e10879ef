// The product for more than 8 tokens: every format and awkward shapes against float64, the same bits whatever the order
// of blocks, what it reads, and the plans that divide it.

#include "cases.h"
#include "cuda/gemm.h"

namespace {

using namespace eqnet::cuda;
using eqnet::TileShape;

// About a 2080 Ti, an A100 and an H100, and one with few processors, where small products make waves, too.
constexpr Device kOldest{68, 75, 64 << 10, 64 << 10};
constexpr Device kLarge{108, 80, 163 << 10, 164 << 10};
constexpr Device kLarger{132, 90, 227 << 10, 228 << 10};
constexpr Device kSmall{3, 86, 99 << 10, 100 << 10};

template <typename T>
struct Result {
  std::vector<T> y;
  eqnet::emulator::Report report;
  std::int64_t x_bytes;
};

// x: [tokens, padded columns].
template <typename T>
std::vector<T> padded(const std::vector<T>& x, const TileShape& shape, std::int64_t tokens) {
  const std::int64_t groups_cols = shape.group_steps() * eqnet::kTileStep, padded_cols = shape.padded_cols();
  std::vector<T> all(static_cast<std::size_t>(tokens * padded_cols), T{0});
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t col = 0; col < shape.cols; ++col) {
      const std::int64_t at = col / shape.group_size * groups_cols + col % shape.group_size;
      all[static_cast<std::size_t>(token * padded_cols + at)] = x[static_cast<std::size_t>(token * shape.cols + col)];
    }
  }
  return all;
}

template <typename T>
Result<T> multiply(const cases::Weight& weight, const std::vector<T>& x, std::int64_t tokens,
                   const std::vector<float>& bias, int activation, const Device& device, bool backwards) {
  const TileShape& shape = weight.shape;
  const Needs needs = gemm_needs(shape, tokens, device);
  const cases::Buffer<const T> in("x", padded(x, shape, tokens));
  const cases::Buffer<const float> biases("bias", bias);
  const cases::Buffer<T> out("y", static_cast<std::size_t>(tokens * shape.rows));
  const cases::Buffer<float> memory("memory", static_cast<std::size_t>(needs.bytes / 4));
  const cases::Buffer<unsigned> counters("counters", std::vector<unsigned>(static_cast<std::size_t>(needs.counters)));
  const Product<T> product{Tiles::of(weight.given()),       in.address(),
                           bias.empty() ? nullptr : biases.address(), out.address(),
                           static_cast<int>(tokens),        activation,
                           memory.address(),                counters.address()};
  Recorder recorder;
  recorder.backwards = backwards;
  gemm(product, shape.bits, device, &recorder);
  cases::expect_clean("gemm", recorder.reports);
  EXPECT(out.unwritten_bytes() == 0, "%zu", out.unwritten_bytes());
  for (const unsigned counter : counters.values()) EXPECT(counter == 0, "%u", counter);
  EXPECT(recorder.reports[0].traffic.bank_conflicts == 0, "%s, %lld tokens: %lld", weight.format.text().c_str(),
         static_cast<long long>(tokens), static_cast<long long>(recorder.reports[0].traffic.bank_conflicts));
  return {out.values(), recorder.reports[0], in.read_bytes()};
}

// Of each weight: groups' scales are rounded to the type, if they are of another one, and multiply in it.
template <typename T>
double weight_error(const cases::Weight& weight) {
  if (weight.shape.groups() == 1) return 0.0;
  return (weight.format.scale_type == cases::kElement<T> ? 1.0 : 2.0) * 1.01 * cases::kUnit<T>;
}

template <typename T>
void expect_right(const cases::Format& format, std::int64_t rows, std::int64_t cols, std::int64_t tokens,
                  const Device& device) {
  const cases::Weight weight(format, rows, cols);
  const std::vector<T> x = cases::draw<T>(tokens * cols, 2);
  std::vector<float> bias;
  if (rows % 2 == 1) {
    for (std::int64_t row = 0; row < rows; ++row) bias.push_back(static_cast<float>(row % 7) - 3.0f);
  }
  const Result<T> result = multiply(weight, x, tokens, bias, EQNET_NO_ACTIVATION, device, false);
  cases::expect_product("gemm", weight, x, tokens, bias, result.y, weight_error<T>(weight));
  const Result<T> backwards = multiply(weight, x, tokens, bias, EQNET_NO_ACTIVATION, device, true);
  EXPECT(std::memcmp(result.y.data(), backwards.y.data(), result.y.size() * sizeof(T)) == 0,
         "%s: other bits when the last block comes first", format.text().c_str());
}

template <typename T>
void sweeps() {
  int turn = 0;
  constexpr std::int64_t kTokens[] = {9, 16, 17, 64, 65};
  for (const cases::Format& format : cases::formats()) {
    expect_right<T>(format, 70 + turn % 4, 136 + turn % 3, kTokens[turn % 5], turn % 2 == 0 ? kLarge : kSmall);
    ++turn;
  }
}

TEST(gemm_formats_half) { sweeps<half>(); }
TEST(gemm_formats_bfloat16) { sweeps<__nv_bfloat16>(); }

}  // namespace
