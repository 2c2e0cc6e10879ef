// Programs as bytes: what is read computes what was written, and no damage does more than an error.
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "eqnet/isa.h"
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
constexpr float kInfinity = INFINITY;

eqnet::SerializedProgram program(const std::vector<std::uint8_t>& bytes) {
  const check::Guarded<std::uint8_t> guarded(bytes);
  return eqnet::read_program(guarded.data(), bytes.size(), eqnet::isa());
}

// One of each operation: a convolution, its double, an activation, a pooling, a concatenation, a flattening.
struct Network {
  static constexpr int kIn = 2, kOut = 5, kHeight = 5, kWidth = 6, kZero = 3, kTop = 1;
  static constexpr float kScale = 0.25f;

  Draw draw;
  Weight weight{{kOut, kIn * 3 * 2, 5, 3}, ScaleType::kFloat16, true, false, draw};
  std::vector<float> bias, x;

  Network() {
    for (int i = 0; i < kOut; ++i) bias.push_back(draw.real(-1, 1));
    for (int i = 0; i < kIn * kHeight * kWidth; ++i) x.push_back(kScale * static_cast<float>(draw.integer(0, 15) - kZero));
  }

  std::vector<std::uint8_t> body() const {
    Writer w;
    w.add({1, 1}).weight(weight).add({kIn, 6});
    w.add({1, 0, 0, kIn, kOut, 1, 3, 2, 1, 1, 1, 1, kTop, 0, 1, 1}).real({kScale}).add({kZero, 16, -1});
    w.real({-kInfinity, kInfinity}).array(bias.data(), 4 * kOut);
    w.add({2, 1, 1}).real({-kInfinity, kInfinity});
    w.add({3, 2}).real({-1.5f, 2.0f});
    w.add({4, 3, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0}).real({-kInfinity, kInfinity});
    w.add({5, 2, 4, 4});
    w.add({6, 5});
    return w.add({6}).body();
  }

  double convolved(int o, int y, int x0, double& bound) const {
    double sum = bias[o];
    bound = std::fabs(sum);
    for (int k = 0; k < kIn * 6; ++k) {
      const int c = k / 6, row = y + k / 2 % 3 - kTop, col = x0 + k % 2;
      if (row < 0 || row >= kHeight || col >= kWidth) continue;
      const double product = weight.value(o, k) * x[(c * kHeight + row) * kWidth + col];
      sum += product;
      bound += std::fabs(product);
    }
    return sum;
  }
};

TEST(serialized_programs_compute_what_was_written) {
  const Network network;
  const auto made = program(file(network.body()));
  EXPECT(made.in_channels == Network::kIn, "%d", static_cast<int>(made.in_channels));
  constexpr int kRows = Network::kHeight / 2, kCols = Network::kWidth / 2, kPixels = kRows * kCols;
  const eqnet::ImageSize size = made.program->result_size(Network::kHeight, Network::kWidth);
  EXPECT(size.channels == 2 * Network::kOut * kPixels && size.height == 1, "%d", static_cast<int>(size.channels));
  std::vector<float> y(2 * Network::kOut * kPixels);
  made.program->run(network.x.data(), 1, Network::kHeight, Network::kWidth, y.data(), 1);
  for (int i = 0; i < static_cast<int>(y.size()); ++i) {
    const int o = i / kPixels % Network::kOut, row = i / kCols % kRows, col = i % kCols;
    double most = -1e9, error = 0;
    for (int k = 0; k < 4; ++k) {
      double bound;
      most = std::fmax(most, network.convolved(o, 2 * row + k / 2, 2 * col + k % 2, bound));
      error = std::fmax(error, 2 * kRounding * bound);
    }
    const double expected = std::fmin(std::fmax(2 * most, -1.5), 2.0);
    EXPECT(std::fabs(expected - y[i]) <= error, "%d: %g and %g", i, expected, static_cast<double>(y[i]));
  }
}

TEST(serialized_models_say_what_is_wrong_with_them) {
  const std::vector<std::uint8_t> body = Network().body();
  auto bytes = file(body);
  const auto expect = [](const std::vector<std::uint8_t>& given, const char* wanted) {
    const std::string found = message([&] { program(given); });
    EXPECT(found.find(wanted) != std::string::npos, "'%s' in '%s'", wanted, found.c_str());
  };
  expect({'e', 'q'}, "no model of eqnet's");
  expect(file(body, 2), "version 2; this library reads version 1");
  bytes.back() ^= 1;
  expect(bytes, "the checksum is wrong");
  bytes.resize(20);
  expect(bytes, "the checksum is wrong");
  expect(file(Writer().add({2, 0, 0}).body()), "kind 2; expected 1");
  expect(file(Writer().add({1, 0, 0, 0}).body()), "'channels of the input' is 0; expected 1 to 16777216");
  expect(file(Writer().add({1, 0, 1, 1, 9, 0}).body()), "operation 0: 'operation' is 9; expected 1 to 6");
  expect(file(Writer().add({1, 0, 1, 1, 6, 1, 0}).body()), "operation 0 (flattening): 'value' is 1; expected 0 to 0");
  expect(file(Writer().add({1, 0, 1, 1, 5, 0, 0}).body()), "operation 0 (concatenation): a concatenation of nothing");
  expect(file(Writer().add({1, 0, 1, 0, 0, 7}).body()), "4 bytes follow the end");
  expect(file(Writer().add({1, 1, 2, 3, 0, 1, 1, 1, 0}).body()), "weight 0: 'bits' is 1; expected 2 to 8");
  expect(file(Writer().add({1, 1, 2147483647, 2147483647, 0, 8, 1, 1, 0}).body()), "the bytes end within 'codes'");
}

// Each number replaced by others, with a checksum that is right: an error, or some other program.
TEST(serialized_models_survive_damage) {
  const std::vector<std::uint8_t> body = Network().body();
  int refused = 0, read = 0;
  const auto attempt = [&](const std::vector<std::uint8_t>& damaged) {
    const std::string found = message([&] {
      const auto made = program(file(damaged));
      made.program->result_size(Network::kHeight, Network::kWidth);
    });
    ++(found.empty() ? read : refused);
  };
  for (std::size_t at = 0; at < body.size(); at += 4) {
    for (const int value : {-1, 0, 1, 2, 255, 65536, 2147483647, -2147483647 - 1, 0x7fc00000}) {
      std::vector<std::uint8_t> damaged = body;
      std::memcpy(damaged.data() + at, &value, 4);
      attempt(damaged);
    }
    attempt({body.begin(), body.begin() + static_cast<std::ptrdiff_t>(at)});
  }
  EXPECT(refused > 200 && read > 200, "%d refused, %d read", refused, read);
}

}  // namespace
