// Convolutions on every instruction set of the processor, against the definition: a few plain loops in 64 bits.
//
// Exits with 0 if all agree. It stands alone, so that it can run under an emulator of another processor.
#include "eqnet/conv.h"

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

namespace {

using eqnet::ConvShape;

constexpr double kRounding = 1e-6;  // relative to the sum of absolute products: a few roundings of float32
constexpr double kTie = 1e-3;       // in codes: so close to the middle between two of them, either may be the result

struct Case {
  ConvShape shape;
  std::int64_t height, width, group_size;
  int least, most;  // of the weights
};

const Case kCases[] = {
    {{24, 40, 1, 1, 1, 1, 1, 1, 1, {}}, 3, 5, 24, -128, 127},
    {{3, 21, 1, 3, 3, 2, 2, 1, 1, {1, 1, 1, 1}}, 9, 7, 27, -8, 7},
    {{5, 16, 1, 3, 2, 1, 1, 2, 3, {2, 0, 1, 3}}, 6, 8, 30, -255, 0},
    {{12, 20, 2, 3, 3, 1, 1, 1, 1, {1, 1, 1, 1}}, 5, 4, 54, 0, 255},
    {{7, 19, 1, 2, 2, 1, 1, 1, 1, {}}, 4, 4, 5, 0, 255},
    {{37, 10, 1, 1, 1, 1, 1, 1, 1, {}}, 1, 1, 16, -128, 127},
    {{3, 3, 3, 3, 3, 1, 1, 1, 1, {1, 1, 1, 1}}, 5, 9, 9, -128, 127},
    {{40, 40, 40, 5, 5, 2, 2, 1, 1, {2, 2, 2, 2}}, 9, 7, 25, 0, 255},
    {{1000, 600, 1, 1, 1, 1, 1, 1, 1, {}}, 1, 1, 1000, -128, 127},  // in parts by channel
    {{16, 17, 1, 3, 3, 1, 1, 1, 1, {1, 1, 1, 1}}, 23, 21, 144, -128, 127},  // in parts by pixel
    {{70, 70, 70, 3, 3, 1, 1, 2, 2, {2, 2, 2, 2}}, 5, 6, 9, -255, 0},
};

class Test {
 public:
  Test(const Case& given, eqnet::Isa isa) : c_(given), isa_(isa) {
    const ConvShape& s = c_.shape;
    groups_ = (s.cols() + c_.group_size - 1) / c_.group_size;
    height_ = s.out_height(c_.height);
    width_ = s.out_width(c_.width);
    layout_ = {c_.height, c_.width, s.in_channels, s.pads};
    for (std::int64_t k = 0; k < s.out_channels * s.cols(); ++k) weight_.push_back(integer(c_.least, c_.most));
    for (std::int64_t k = 0; k < s.out_channels * groups_; ++k) scale_.push_back(real() * 1e-3f);
    for (std::int64_t k = 0; k < s.out_channels; ++k) bias_.push_back(real());
    codes_.assign(kImages * layout_.image() + eqnet::kSlack, kZero);
    for (std::int64_t i = 0; i < kImages; ++i) {
      for (std::int64_t y = 0; y < c_.height; ++y) {
        for (std::int64_t k = 0; k < c_.width * s.in_channels; ++k) {
          codes_[i * layout_.image() + layout_.origin() + y * layout_.row() + k] = integer(0, 255);
        }
      }
    }
    for (std::int64_t k = 0; k < count(); ++k) residual_.push_back(5 * real());
  }

  // How many results are wrong.
  int errors(bool scaled) {
    eqnet::Finish finish{};
    finish.scaled = scaled;
    finish.targets = scaled ? 1 : 2;
    finish.has_value = finish.has_residual = !scaled;
    finish.low = -0.5f;
    finish.high = 6.0f;
    finish.coding[0] = {0.05f, 1 / 0.05f, 10, 10, 130};
    finish.coding[1] = {0.11f, 1 / 0.11f, 128, 0, 255};
    std::vector<std::uint8_t> out[2] = {std::vector<std::uint8_t>(count()), std::vector<std::uint8_t>(count())};
    std::vector<float> values(count());
    eqnet::ConvCall call{kImages, layout_, codes_.data(), {}, values.data(), residual_.data()};
    const std::int64_t row = width_ * c_.shape.out_channels;
    for (int t = 0; t < 2; ++t) call.code[t] = {out[t].data(), row, height_ * row};
    const auto layer = eqnet::Convolution::make(
        c_.shape, {weight_.data(), scale_.data(), c_.group_size, bias_.data(), kScale, kZero}, isa_);
    layer->set_finish(finish);
    const std::int64_t parts = layer->parts(call, 3);
    for (std::int64_t part = parts; part-- > 0;) layer->run(call, part, parts);
    int wrong = 0;
    for (std::int64_t k = 0; k < count(); ++k) {
      double bound = 0;
      const double exact = result(k, bound) + (scaled ? 0 : residual_[k]);
      if (!scaled && !(std::fabs(clamp(exact, finish.low, finish.high) - values[k]) <= kRounding * (bound + 5))) ++wrong;
      for (int t = 0; t < finish.targets; ++t) {
        const eqnet::Coding& coding = finish.coding[t];
        const double ratio = exact / coding.scale;
        const double code = clamp(std::nearbyint(ratio) + coding.zero, coding.low, coding.high);
        const bool tie = std::fabs(ratio - std::floor(ratio) - 0.5) < kTie;
        if (std::fabs(code - out[t][k]) > (tie ? 1 : 0)) ++wrong;
      }
    }
    return wrong;
  }

 private:
  static constexpr std::int64_t kImages = 2;
  static constexpr int kZero = 77;
  static constexpr float kScale = 0.02f;

  int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  float real() { return std::uniform_real_distribution<float>(-1, 1)(random_); }
  static double clamp(double x, double low, double high) { return std::fmin(std::fmax(x, low), high); }
  std::int64_t count() const { return kImages * height_ * width_ * c_.shape.out_channels; }

  double result(std::int64_t k, double& bound) const {
    const ConvShape& s = c_.shape;
    const std::int64_t o = k % s.out_channels, x = k / s.out_channels % width_;
    const std::int64_t y = k / (s.out_channels * width_) % height_, i = k / (s.out_channels * width_ * height_);
    const std::int64_t inputs = s.in_channels / s.groups, first = o / (s.out_channels / s.groups) * inputs;
    double sum = bias_[o];
    bound = std::fabs(sum);
    for (std::int64_t column = 0; column < s.cols(); ++column) {
      const std::int64_t kx = column % s.kernel_w, ky = column / s.kernel_w % s.kernel_h;
      const std::int64_t iy = y * s.stride_h + ky * s.dilation_h - s.pads.top;
      const std::int64_t ix = x * s.stride_w + kx * s.dilation_w - s.pads.left;
      if (iy < 0 || iy >= c_.height || ix < 0 || ix >= c_.width) continue;
      const std::int64_t channel = first + column / (s.kernel_w * s.kernel_h);
      const std::int64_t at = i * layout_.image() + layout_.origin() + iy * layout_.row() + ix * s.in_channels + channel;
      const double scale = scale_[o * groups_ + column / c_.group_size];
      const double product = weight_[o * s.cols() + column] * scale * (codes_[at] - kZero) * kScale;
      sum += product;
      bound += std::fabs(product);
    }
    return sum;
  }

  Case c_;
  eqnet::Isa isa_;
  std::mt19937 random_{1};
  std::int64_t groups_, height_, width_;
  eqnet::CodeLayout layout_;
  std::vector<std::int16_t> weight_;
  std::vector<float> scale_, bias_, residual_;
  std::vector<std::uint8_t> codes_;
};

}  // namespace

int main() {
  int wrong = 0;
  for (const eqnet::Isa isa : {eqnet::Isa::kPortable, eqnet::Isa::kAvx2, eqnet::isa()}) {
    if (isa > eqnet::isa()) continue;
    for (std::size_t i = 0; i < sizeof(kCases) / sizeof(*kCases); ++i) {
      for (const bool scaled : {true, false}) {
        const int errors = Test(kCases[i], isa).errors(scaled);
        if (errors > 0) std::printf("%s, case %zu, scaled %d: %d wrong\n", eqnet::isa_name(isa), i, scaled, errors);
        wrong += errors;
      }
    }
  }
  std::printf("%s: %d wrong\n", eqnet::isa_name(eqnet::isa()), wrong);
  return wrong == 0 ? 0 : 1;
}
