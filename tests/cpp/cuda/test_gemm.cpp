// The product for more than 8 tokens: every format, arrangement and awkward shape against float64, the same bits in any
// order of blocks, what it reads, and whether its plans fit.

#include "cuda/gemm.h"
#include "multiplied.h"

namespace {

using namespace eqnet::cuda;
using eqnet::TileShape;

// About a 2080 Ti, an A100 and an H100, and one with few processors, where small products make waves, too.
constexpr Device kOldest{68, 75, 64 << 10, 64 << 10};
constexpr Device kLarge{108, 80, 163 << 10, 164 << 10};
constexpr Device kLarger{132, 90, 227 << 10, 228 << 10};
constexpr Device kSmall{3, 86, 99 << 10, 100 << 10};

// A product and what it is made of.
template <typename T>
struct Case {
  Case(const cases::Format& format, std::int64_t rows, std::int64_t cols, std::int64_t tokens, bool has_bias = false)
      : weight(format, rows, cols), x(cases::draw<T>(tokens * cols, 2)), tokens(tokens) {
    for (std::int64_t row = 0; has_bias && row < rows; ++row) bias.push_back(static_cast<float>(row % 7) - 3.0f);
  }

  GemmPlan plan(const Device& device) const { return plan_gemm(GemmSize::of(weight.shape, tokens), device); }

  std::vector<T> run(const GemmPlan& plan, bool backwards = false, int activation = EQNET_NO_ACTIVATION) {
    const auto made = cases::multiplied("gemm", weight, x, tokens, bias, activation, needs_of(plan), backwards,
                                        [&](const Product<T>& product, Recorder* recorder) {
                                          launch_gemm(product, weight.shape.bits, plan, recorder);
                                        });
    report = made.reports[0];
    EXPECT(report.traffic.bank_conflicts == 0, "%s, %lld tokens: %lld", weight.format.text().c_str(),
           static_cast<long long>(tokens), static_cast<long long>(report.traffic.bank_conflicts));
    return made.y;
  }

  // Scales of groups are rounded to the type, if they are of another one, and multiply weights in it.
  void expect_right(const GemmPlan& plan) {
    const double roundings =
        weight.shape.groups() == 1 ? 0.0 : weight.format.scale_type == cases::kElement<T> ? 1.0 : 2.01;
    const std::vector<T> y = run(plan);
    cases::expect_product("gemm", weight, x, tokens, bias, y, roundings * cases::kUnit<T>);
    const std::vector<T> backwards = run(plan, true);
    EXPECT(std::memcmp(y.data(), backwards.data(), y.size() * sizeof(T)) == 0,
           "%s: other bits when the last block comes first", weight.format.text().c_str());
  }

  const cases::Weight weight;
  const std::vector<T> x;
  const std::int64_t tokens;
  std::vector<float> bias;
  eqnet::emulator::Report report;  // of the last run
};

template <typename T>
void sweeps() {
  int turn = 0;
  constexpr std::int64_t kTokens[] = {9, 16, 17, 64, 65};
  for (const cases::Format& format : cases::formats()) {
    Case<T> product(format, 70 + turn % 4, 136 + turn % 3, kTokens[turn % 5], turn % 2 == 1);
    product.expect_right(product.plan(turn % 2 == 0 ? kLarge : kSmall));
    ++turn;
  }
}

TEST(gemm_formats_half) { sweeps<half>(); }
TEST(gemm_formats_bfloat16) { sweeps<__nv_bfloat16>(); }

// Each arrangement of warps by itself, with blocks that share units, with waves before these, and without.
template <typename T>
void arranged(int bits, std::int64_t group_size, bool symmetric) {
  int in_parts = 0, in_waves = 0;
  for (const Arrangement& arrangement : kArrangements) {
    for (const int processors : {2, 5, 40}) {
      Device device = kLarge;
      device.processors = processors;
      Case<T> product({bits, group_size, symmetric}, 257, 400, arrangement.tokens + 9, true);
      GemmPlan plan = plan_block(GemmSize::of(product.weight.shape, product.tokens), arrangement, 1, device);
      divide(plan, GemmSize::of(product.weight.shape, product.tokens), 1, device);
      if (plan.rest_stages > 0 && processors < 40) {  // worth while or not
        plan.stripes = std::min(processors, plan.rest_stages);
        plan.blocks = std::max(plan.waves > 0 ? plan.blocks : 0, plan.stripes);
      }
      in_parts += plan.stripes > plan.rest_units();
      in_waves += plan.waves > 0;
      product.expect_right(plan);
    }
  }
  EXPECT(in_parts > 10 && in_waves > 10, "%d, %d", in_parts, in_waves);
}

TEST(gemm_arrangements_half) { arranged<half>(3, 48, false); }
TEST(gemm_arrangements_bfloat16) { arranged<__nv_bfloat16>(6, 0, true); }

// Stripes shorter than a unit by far: units in many parts, whose order tells.
TEST(gemm_in_many_parts) {
  Case<half> product({4, 32, true}, 130, 2048, 20);
  GemmPlan plan = plan_block(GemmSize::of(product.weight.shape, product.tokens), {32, 1, 1, 0}, 1, kLarge);
  divide(plan, GemmSize::of(product.weight.shape, product.tokens), 1, kLarge);
  plan.stripes = plan.blocks = 13;
  EXPECT(plan.rest_units() == 2, "%d", plan.rest_units());
  product.expect_right(plan);
}

// Many tokens: bands of units, and more tokens than a block takes at a time.
TEST(gemm_many_tokens) {
  Case<half> product({4, 128, true}, 600, 128, 1100);
  const GemmPlan plan = product.plan(kLarge);
  EXPECT(plan.token_blocks > 8 && plan.near_rows > 1, "%d, %d", plan.token_blocks, plan.near_rows);
  product.expect_right(plan);
}

TEST(gemm_activations) {
  Case<half> product({4, 0, false}, 67, 64, 19, true);
  const GemmPlan plan = product.plan(kLarge);
  const std::vector<half> plain = product.run(plan);
  for (const int activation : {EQNET_RELU, EQNET_SILU, EQNET_GELU, EQNET_GELU_TANH}) {
    const std::vector<half> y = product.run(plan, false, activation);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const auto x = static_cast<double>(cases::widen(plain[i])), got = static_cast<double>(cases::widen(y[i]));
      // Of x that is rounded already; activations are at most 1.13 times as steep.
      const double bound = cases::kUnit<half> * (1.2 * std::fabs(x) + std::fabs(got)) + 1e-6;
      EXPECT(std::fabs(got - cases::activated(x, activation)) <= bound, "%d of %g: %g", activation, x, got);
    }
  }
}

// What reaches memory beyond a cache of 4 MB, of what has to: the weight, x and y, once. Sums of parts are the rest.
constexpr double kMostTraffic = 1.15;

void expect_traffic(const cases::Format& format, std::int64_t rows, std::int64_t cols, const Device& device) {
  constexpr std::int64_t kTokens = 64;
  Case<half> product(format, rows, cols, kTokens);
  product.run(product.plan(device));
  const auto least = static_cast<double>(product.weight.bytes() + 2 * kTokens * (rows + cols));
  const auto bytes = static_cast<double>(product.report.memory_read_bytes + product.report.memory_written_bytes);
  EXPECT(bytes <= kMostTraffic * least, "%s [%lld, %lld]: %.3f times as much as it has to",
         format.text().c_str(), static_cast<long long>(rows), static_cast<long long>(cols), bytes / least);
  EXPECT(product.report.traffic.uncoalesced() == 0, "%lld",
         static_cast<long long>(product.report.traffic.uncoalesced()));
}

TEST(gemm_traffic) {
  for (const Device& device : {kOldest, kSmall, kLarge, kLarger}) {
    expect_traffic({4, 0, true}, 1024, 2048, device);
  }
  expect_traffic({2, 128, false}, 1024, 2048, kLarge);
  expect_traffic({8, 64, false, EQNET_FLOAT32}, 512, 1024, kLarger);
}
TEST(gemm_traffic_large) { expect_traffic({4, 0, true}, 4096, 4096, kLarge); }

// Every plan fits its device, and leaves few processors without a block.
TEST(gemm_plans) {
  for (const Device& device : {kOldest, kSmall, kLarge, kLarger}) {
    for (int bits = 2; bits <= 8; ++bits) {
      for (const std::int64_t group_size : {16, 48, 128, 4096}) {
        for (const std::int64_t tokens : {9, 40, 64, 200, 4096}) {
          const TileShape shape{4096, 4096, group_size, bits};
          const GemmPlan plan = plan_gemm(GemmSize::of(shape, tokens), device);
          EXPECT(plan.slots >= 2 && plan.shared_bytes() <= device.shared_bytes, "%d bits, group %lld: %d slots", bits,
                 static_cast<long long>(group_size), plan.slots);
          // Few tokens may take less time than blocks take to add up their sums.
          EXPECT(tokens < 64 || 2 * plan.blocks > device.processors, "%lld tokens: %d blocks for %d processors",
                 static_cast<long long>(tokens), plan.blocks, device.processors);
          EXPECT(plan.rest_stages == 0 || (plan.stripes >= plan.rest_units() && plan.stripes <= plan.blocks), "%d",
                 plan.stripes);
        }
      }
    }
  }
}

}  // namespace
