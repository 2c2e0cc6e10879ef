// Linear layers as bytes: what is read computes what was written, also for several callers at once.
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "eqnet/serialized.h"
#include "guarded.h"
#include "serialized.h"

namespace {

using check::Draw;
using check::file;
using check::message;
using check::Weight;
using check::Writer;
using eqnet::ScaleType;

constexpr double kRounding = 2e-6;  // relative to the sum of absolute products: float32 where the reference has double

TEST(layers_compute_what_was_written) {
  Draw draw;
  for (const ScaleType type : {ScaleType::kFloat16, ScaleType::kBfloat16, ScaleType::kFloat32}) {
    for (const bool symmetric : {true, false}) {
      const Weight weight({7, 45, 20, 5}, type, true, symmetric, draw);
      std::vector<float> bias, x;
      for (int i = 0; i < 7; ++i) bias.push_back(draw.real(-1, 1));
      for (int i = 0; i < 2 * 45; ++i) x.push_back(0.5f * static_cast<float>(draw.integer(0, 255) - 100));
      Writer w;  // the second layer has codes of its input, which hold all of x, and no bias
      w.add({2, 1}).weight(weight).add({2, 1}).array("a", 1).add({0, 0}).real({1.0f}).add({0, 0, 0, 1});
      w.array(bias.data(), 28).add({3}).array("b.c", 3).add({0, 2}).real({0.5f}).add({100, 0, 255, 0});
      const check::Guarded<std::uint8_t> bytes(file(w.body()));
      const eqnet::LinearLayers layers(bytes.data(), static_cast<std::size_t>(bytes.size()));
      for (const char* name : {"a", "b.c"}) {
        std::vector<float> y(14);
        eqnet::LinearLayer& layer = layers.at(name);
        EXPECT(layer.inputs() == 45 && layer.outputs() == 7, "%s", name);
        layer.run(x.data(), y.data(), eqnet::Element::kFloat32, 2, 2);
        for (int i = 0; i < 14; ++i) {
          double expected = *name == 'a' ? bias[i % 7] : 0, bound = std::fabs(expected);
          for (int k = 0; k < 45; ++k) {
            // As static codes are taken apart, the zero point's part of the sum counts too.
            expected += weight.value(i % 7, k) * x[i / 7 * 45 + k];
            bound += std::fabs(weight.value(i % 7, k)) * 130;
          }
          EXPECT(std::fabs(expected - y[i]) <= kRounding * bound, "%s, %d: %g and %g", name, i, expected,
                 static_cast<double>(y[i]));
        }
      }
      EXPECT(message([&] { layers.at("b"); }) == "there is no linear layer 'b'", "%s", "b");
    }
  }
}

// The first call puts the weight into order, whoever makes it, while others wait.
TEST(layers_take_callers_at_once) {
  Draw draw;
  const Weight weight({40, 64, 32, 4}, ScaleType::kFloat16, true, false, draw);
  Writer w;
  w.add({2, 1}).weight(weight).add({1, 1}).array("a", 1).add({0, 2}).real({0.5f}).add({7, 0, 15, 0});
  const check::Guarded<std::uint8_t> bytes(file(w.body()));
  const eqnet::LinearLayers layers(bytes.data(), static_cast<std::size_t>(bytes.size()));
  std::vector<float> x;
  for (int i = 0; i < 64; ++i) x.push_back(draw.real(-4, 4));
  std::vector<std::vector<float>> results(4, std::vector<float>(40));
  std::vector<std::thread> callers;
  for (auto& y : results) {
    callers.emplace_back([&] { layers.at("a").run(x.data(), y.data(), eqnet::Element::kFloat32, 1, 2); });
  }
  for (std::thread& caller : callers) caller.join();
  for (const auto& y : results) EXPECT(y == results[0] && y[0] != 0, "%g", static_cast<double>(y[0]));
}

}  // namespace
