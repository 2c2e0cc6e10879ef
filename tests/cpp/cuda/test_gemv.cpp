// The product with up to 8 tokens: what it gives, in whatever way it is divided, and what it reads.

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

}  // namespace
