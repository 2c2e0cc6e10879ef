// The product with up to 8 tokens: what it gives, in whatever way it is divided, and what it reads.

#include <cmath>
#include <iterator>
#include <stdexcept>
#include <string>

#include "cuda/gemv.h"
#include "multiplied.h"

namespace {

using namespace eqnet::cuda;

constexpr Device kA100{108, 80, 163 * 1024, 164 * 1024};
constexpr Device kTuring{68, 75, 64 * 1024, 64 * 1024};  // GeForce RTX 2080 Ti
constexpr Device kSmall{2, 80, 99 * 1024, 100 * 1024};   // that few rows of tiles fill

constexpr double kExact = 0;  // weights are not rounded: codes are exact, and scales are applied in float32

struct Case {
  std::int64_t rows, cols, tokens;
  int bias = 0;  // whether there is one
  int activation = EQNET_NO_ACTIVATION;
};

// As the kernel is launched by a plan, or where it has no splits, as it plans itself.
template <typename T>
cases::Multiplied<T> run(const cases::Weight& weight, const Case& of, const std::vector<T>& x,
                         const std::vector<float>& bias, GemvPlan plan, const Device& device, bool backwards) {
  Needs needs = gemv_needs(weight.shape, of.tokens, device);
  if (plan.splits > 0) {
    needs = {plan.splits * of.tokens * weight.shape.row_tiles() * 64 * 4, weight.shape.row_tiles()};
  }
  return cases::multiplied("gemv", weight, x, of.tokens, bias, of.activation, needs, backwards,
                           [&](const Product<T>& product, Recorder* recorder) {
                             if (plan.splits > 0) {
                               gemv_as(plan, product, weight.shape.bits, device, recorder);
                             } else {
                               gemv(product, weight.shape.bits, device, recorder);
                             }
                           });
}

std::vector<float> draw_bias(const Case& of) {
  std::vector<float> bias;
  for (const half value : cases::draw<half>(of.bias * of.rows, 3)) bias.push_back(cases::widen(value));
  return bias;
}

template <typename T>
void expect_right(const cases::Format& format, const Case& of, GemvPlan plan, const Device& device) {
  const cases::Weight weight(format, of.rows, of.cols);
  const std::vector<T> x = cases::draw<T>(of.tokens * of.cols, 2);
  const std::vector<float> bias = draw_bias(of);
  const auto forwards = run(weight, of, x, bias, plan, device, false);
  cases::expect_product("gemv", weight, x, of.tokens, bias, forwards.y, kExact);
  for (const cases::Report& report : forwards.reports) {
    EXPECT(report.traffic.bank_conflicts == 0, "%s: %lld", format.text().c_str(),
           static_cast<long long>(report.traffic.bank_conflicts));
  }
  const auto backwards = run(weight, of, x, bias, plan, device, true);
  for (std::size_t i = 0; i < forwards.y.size(); ++i) {
    EXPECT(forwards.y[i].bits == backwards.y[i].bits, "%s: %zu depends on the order of blocks", format.text().c_str(),
           i);
  }
}

// Every format, each in another shape and divided in another way.
template <typename T>
void sweeps() {
  const Case shapes[] = {{65, 129, 1, 1}, {64, 64, 8},   {1, 500, 7, 1}, {130, 300, 2},
                         {33, 20, 1, 1},  {70, 257, 8}, {3, 1, 5}};
  const GemvPlan plans[] = {{1, 1, 0}, {2, 2, 0}, {1, 0, 0}, {4, 1, 0}, {8, 3, 0}};
  std::size_t i = 0;
  for (const cases::Format& format : cases::formats()) {
    for (int turn = 0; turn < 2; ++turn, ++i) {
      expect_right<T>(format, shapes[(i + i / 14) % std::size(shapes)], plans[i % std::size(plans)],
                      i % 2 == 0 ? kA100 : kSmall);
    }
  }
}

TEST(gemv_half) { sweeps<half>(); }
TEST(gemv_bfloat16) { sweeps<__nv_bfloat16>(); }

TEST(gemv_in_chunks_of_x) {
  // More columns of 8 tokens than shared memory has room for at a time.
  for (const std::int64_t group_size : {0, 16, 80}) {
    expect_right<half>({4, group_size, false}, {130, 2200, 8, 1}, {2, 1, 0}, kTuring);
    expect_right<half>({3, group_size, false, EQNET_FLOAT32}, {65, 2200, 8}, {1, 2, 0}, kTuring);
  }
}

// Sums of codes whose zero points are not taken away first would be many times larger, most of all of x of one sign.
template <typename T>
void keeps_small_sums() {
  for (const int bits : {2, 8}) {
    const cases::Weight weight({bits, 0, true}, 64, 4096);
    std::vector<T> x = cases::draw<T>(4096, 2);
    for (T& value : x) value.bits &= 0x7fff;
    const auto made = run(weight, {64, 4096, 1}, x, {}, {8, 1, 0}, kA100, false);  // a warp has all columns
    cases::expect_product("gemv", weight, x, 1, {}, made.y, kExact);
  }
}

TEST(gemv_of_x_of_one_sign) {
  keeps_small_sums<half>();
  keeps_small_sums<__nv_bfloat16>();
}

TEST(gemv_activations) {
  const cases::Weight weight({4, 32, false}, 70, 64);
  const std::vector<half> x = cases::draw<half>(2 * 64, 2);
  Case of{70, 64, 2, 1};
  const std::vector<float> bias = draw_bias(of);
  const auto plain = run(weight, of, x, bias, {1, 1, 0}, kA100, false).y;
  for (const int activation : {EQNET_RELU, EQNET_SILU, EQNET_GELU, EQNET_GELU_TANH}) {
    of.activation = activation;
    const auto y = run(weight, of, x, bias, {1, 1, 0}, kA100, false).y;
    for (std::size_t i = 0; i < y.size(); ++i) {
      // Of the sum as it is rounded: these functions make an error at most a little larger.
      const double v = static_cast<double>(cases::widen(plain[i])), want = cases::activated(v, activation);
      const double got = static_cast<double>(cases::widen(y[i]));
      EXPECT(std::fabs(got - want) <= 3 * cases::kUnit<half> * std::fabs(v) + 1e-6, "%d: f(%g) is %g, not %g",
             activation, v, want, got);
    }
  }
}

// Bytes that may be moved for each that has to be.
constexpr double kMostTraffic = 1.05;

template <typename T>
void expect_little_traffic(const cases::Format& format, const Case& of, const Device& device) {
  const cases::Weight weight(format, of.rows, of.cols);
  const std::vector<T> x = cases::draw<T>(of.tokens * of.cols, 2);
  const auto made = run(weight, of, x, {}, {1, 0, 0}, device, false);
  const GemvPlan plan = gemv_plan(weight.shape, of.tokens, device);
  const auto least = static_cast<double>(made.least_bytes);
  const double memory = static_cast<double>(made.memory_bytes) / least;
  const double plain = static_cast<double>(made.plain_bytes) / least;
  const std::string text = format.text() + ", " + std::to_string(of.tokens) + " tokens, " +
                           std::to_string(plan.rows) + " rows of tiles, " + std::to_string(plan.splits) + " splits";
  EXPECT(memory <= kMostTraffic, "%s: %.3f times the least", text.c_str(), memory);
  EXPECT(of.tokens > 1 || plain <= kMostTraffic, "%s: %.3f times the least without a cache", text.c_str(), plain);
  EXPECT(made.reports[0].traffic.uncoalesced() == 0, "%s: %lld sectors", text.c_str(),
         static_cast<long long>(made.reports[0].traffic.uncoalesced()));
  EXPECT(made.reports[0].traffic.bank_conflicts == 0, "%s: %lld", text.c_str(),
         static_cast<long long>(made.reports[0].traffic.bank_conflicts));
}

TEST(gemv_traffic) {
  // A device so small that these shapes are large for it.
  constexpr Device kFew{6, 80, 163 * 1024, 164 * 1024};
  for (const std::int64_t tokens : {1, 8}) {
    expect_little_traffic<half>({4, 128, false}, {1024, 2048, tokens}, kFew);
    expect_little_traffic<half>({2, 32, true}, {1536, 2048, tokens}, kFew);
    expect_little_traffic<__nv_bfloat16>({8, 0, true, EQNET_FLOAT32}, {512, 2048, tokens}, kFew);
    expect_little_traffic<half>({4, 0, true}, {128, 8192, tokens}, kFew);  // by splits
  }
}

TEST(gemv_plans) {
  const eqnet::TileShape square{4096, 4096, 4096, 4}, narrow{64, 64, 64, 4}, words{151936, 896, 896, 4};
  EXPECT(gemv_plan(square, 1, kA100).splits > 1, "half of the processors do nothing");
  EXPECT(gemv_plan(narrow, 1, kA100).splits == 1 && gemv_needs(narrow, 1, kA100).bytes == 0, "one tile");
  EXPECT(gemv_plan(words, 1, kA100).splits == 1, "there are enough rows");
  for (const std::int64_t tokens : {1, 8}) {
    const Needs needs = gemv_needs(square, tokens, kA100);
    EXPECT(needs.bytes <= square.code_bytes() / 50 * (needs.bytes > 0), "%lld", static_cast<long long>(needs.bytes));
  }
}

TEST(gemv_refuses_bfloat16_before_sm_80) {
  std::string text;
  try {
    gemv(Product<__nv_bfloat16>{}, 4, kTuring, nullptr);
  } catch (const std::invalid_argument& error) {
    text = error.what();
  }
  EXPECT(text == "products of bfloat16 need compute capability 8.0; this GPU has 7.5", "%s", text.c_str());
}

}  // namespace
