// Weights for tests of the kernels: random codes, put into tiles one by one as eqnet/tiles.h draws them, and what the
// kernels should make of them, in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/launch.h"
#include "cuda/tiles.h"
#include "emulator/memory.h"

namespace cases {

using eqnet::TileShape;
using eqnet::emulator::Buffer;
using eqnet::emulator::narrow;
using eqnet::emulator::Report;
using eqnet::emulator::widen;

struct Format {
  int bits;
  std::int64_t group_size;  // 0: one scale a channel
  bool symmetric;
  int scale_type = EQNET_FLOAT16;

  std::string text() const {
    return std::string(symmetric ? "int" : "uint") + std::to_string(bits) + ":" +
           (group_size == 0 ? "channel" : "group" + std::to_string(group_size)) + " scales " +
           std::to_string(scale_type);
  }
};

// A scale as it is stored, and its value.
inline std::uint32_t scale_bits(float value, int type) {
  if (type == EQNET_FLOAT16) return narrow<half>(value).bits;
  if (type == EQNET_BFLOAT16) return narrow<__nv_bfloat16>(value).bits;
  return eqnet::emulator::reinterpret<std::uint32_t>(value);
}
inline float scale_value(std::uint32_t bits, int type) {
  if (type == EQNET_FLOAT16) return widen(half{static_cast<std::uint16_t>(bits)});
  if (type == EQNET_BFLOAT16) return widen(__nv_bfloat16{static_cast<std::uint16_t>(bits)});
  return eqnet::emulator::reinterpret<float>(bits);
}

// A weight in tiles, in the memory of the GPU, and its values.
class Weight {
 public:
  Weight(const Format& format, std::int64_t rows, std::int64_t cols, unsigned seed = 1)
      : format(format),
        shape{rows, cols, format.group_size == 0 || format.group_size > cols ? cols : format.group_size, format.bits},
        random_(seed),
        values_(static_cast<std::size_t>(rows * cols)),
        centred_(static_cast<std::size_t>(rows * cols)),
        code_bytes_(static_cast<std::size_t>(shape.code_bytes())),
        scale_bytes_(static_cast<std::size_t>(shape.scale_count() * scale_size())),
        zero_bytes_(static_cast<std::size_t>(shape.scale_count())) {
    fill();
    codes_ = std::make_unique<Buffer<const unsigned char>>("codes", code_bytes_);
    scales_ = std::make_unique<Buffer<const unsigned char>>("scales", scale_bytes_);
    if (!format.symmetric) zeros_ = std::make_unique<Buffer<const unsigned char>>("zeros", zero_bytes_);
  }

  // What the library is given.
  eqnet_cuda_weight given() const {
    return {shape.rows,        shape.cols,       shape.group_size,  shape.bits, format.scale_type,
            codes_->address(), scales_->address(), zeros_ == nullptr ? nullptr : zeros_->address()};
  }
  double value(std::int64_t row, std::int64_t col) const { return values_[index(row * shape.cols + col)]; }
  // Its code less its zero point.
  int code(std::int64_t row, std::int64_t col) const { return centred_[index(row * shape.cols + col)]; }

  // What a kernel has to read of it, once, and what it did read.
  std::int64_t bytes() const {
    return static_cast<std::int64_t>(code_bytes_.size() + scale_bytes_.size() +
                                     (format.symmetric ? 0 : zero_bytes_.size()));
  }
  std::int64_t read_bytes() const {
    return codes_->read_bytes() + scales_->read_bytes() + (zeros_ == nullptr ? 0 : zeros_->read_bytes());
  }

  const Format format;
  const TileShape shape;

 private:
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }
  std::int64_t scale_size() const { return format.scale_type == EQNET_FLOAT32 ? 4 : 2; }

  // Codes of padding are drawn too: nothing may depend on them.
  void fill() {
    std::uniform_int_distribution<int> code(0, (1 << format.bits) - 1);
    std::uniform_real_distribution<float> scale(0.5f, 1.5f);
    const std::int64_t group_cols = shape.group_steps() * eqnet::kTileStep;
    for (std::int64_t row = 0; row < shape.row_tiles() * eqnet::kTile; ++row) {
      std::uint32_t bits = 0;
      int zero = 0;
      for (std::int64_t at = 0; at < shape.padded_cols(); ++at) {
        const std::int64_t group = at / group_cols, offset = at % group_cols;
        const std::int64_t col = group * shape.group_size + offset;
        const bool exists = row < shape.rows && offset < shape.group_size && col < shape.cols;
        if (offset == 0) {
          const bool has_scale = row < shape.rows && col < shape.cols;
          bits = scale_bits(has_scale ? scale(random_) / static_cast<float>(1 << format.bits) : 0.0f, format.scale_type);
          zero = format.symmetric ? 1 << (format.bits - 1) : code(random_);
          put_scale(row, group, bits, zero);
        }
        const int u = code(random_);
        put_code(row, at, u);
        if (!exists) continue;
        const std::size_t place = index(row * shape.cols + col);
        centred_[place] = u - zero;
        values_[place] = (u - zero) * static_cast<double>(scale_value(bits, format.scale_type));
      }
    }
  }

  void put_scale(std::int64_t row, std::int64_t group, std::uint32_t bits, int zero) {
    const std::int64_t tile = row / 64, m = row % 64 / 16, h = row % 16 / 8, g = row % 8;
    const std::int64_t place = (tile * shape.groups() + group) * 64 + 8 * g + 2 * m + h;
    for (std::int64_t i = 0; i < scale_size(); ++i) {
      scale_bytes_[index(place * scale_size() + i)] = static_cast<unsigned char>(bits >> 8 * i);
    }
    zero_bytes_[index(place)] = static_cast<unsigned char>(zero);
  }

  void put_code(std::int64_t row, std::int64_t col, int code) {
    const std::int64_t tile = row / 64 * shape.col_tiles() + col / 64;
    const std::int64_t m = row % 64 / 16, h = row % 16 / 8, g = row % 8;
    const std::int64_t step = col % 64 / 16, eight = col % 16 / 8, t = col % 8 / 2, second = col % 2;
    const std::int64_t lane = 4 * g + t, pair = 16 * step + 4 * m + 2 * eight + h;
    std::int64_t line = tile * shape.bits;
    for (const int width : {8, 4, 2, 1}) {
      if ((shape.bits & width) == 0) continue;
      const std::int64_t word = pair / (16 / width), bit = pair % (16 / width) * width + 16 * second;
      const std::int64_t byte = (line + word / 4) * 512 + lane * 16 + word % 4 * 4 + bit / 8;
      code_bytes_[index(byte)] |= static_cast<unsigned char>((code & ((1 << width) - 1)) << bit % 8);
      code >>= width;
      line += width;
    }
  }

  std::mt19937 random_;
  std::vector<double> values_;
  std::vector<int> centred_;
  std::vector<unsigned char> code_bytes_, scale_bytes_, zero_bytes_;
  std::unique_ptr<Buffer<const unsigned char>> codes_, scales_, zeros_;
};

template <typename T>
constexpr int kElement = std::is_same_v<T, half> ? EQNET_FLOAT16 : EQNET_BFLOAT16;

// [count] numbers of about 1.
template <typename T>
std::vector<T> draw(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(narrow<T>(normal(random)));
  return values;
}

// The activations of eqnet/cuda.h.
inline double activated(double x, int activation) {
  switch (activation) {
    case EQNET_RELU:
      return std::max(x, 0.0);
    case EQNET_SILU:
      return x / (1 + std::exp(-x));
    case EQNET_GELU:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case EQNET_GELU_TANH:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    default:
      return x;
  }
}

// Bounds of errors, of the sum of magnitudes and of the result.
constexpr double kSumError = 1e-5;  // sums in float32, in any order
template <typename T>
constexpr double kUnit = std::is_same_v<T, half> ? 0x1p-11 : 0x1p-8;  // of a number that is rounded to T

// Holds y: [tokens, rows] to x W^T + bias in float64. weight_error: of each weight, relative.
template <typename T>
void expect_product(const char* what, const Weight& weight, const std::vector<T>& x, std::int64_t tokens,
                    const std::vector<float>& bias, const std::vector<T>& y, double weight_error) {
  const std::int64_t rows = weight.shape.rows, cols = weight.shape.cols;
  int wrong = 0;
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t row = 0; row < rows; ++row) {
      double sum = bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(row)]);
      double magnitudes = std::fabs(sum);
      for (std::int64_t col = 0; col < cols; ++col) {
        const double product =
            static_cast<double>(widen(x[static_cast<std::size_t>(token * cols + col)])) * weight.value(row, col);
        sum += product;
        magnitudes += std::fabs(product);
      }
      const double got = static_cast<double>(widen(y[static_cast<std::size_t>(token * rows + row)]));
      const double bound = (kSumError + weight_error) * magnitudes + kUnit<T> * std::fabs(sum) + 1e-7;
      if (!(std::fabs(got - sum) <= bound) && ++wrong <= 3) {
        EXPECT(false, "%s %s [%lld, %lld], %lld tokens: (%lld, %lld) is %g, not %g within %g", what,
               weight.format.text().c_str(), static_cast<long long>(rows), static_cast<long long>(cols),
               static_cast<long long>(tokens), static_cast<long long>(token), static_cast<long long>(row), got, sum,
               bound);
      }
    }
  }
}

inline void expect_clean(const char* what, const std::vector<Report>& reports) {
  for (const Report& report : reports) EXPECT(report.findings.empty(), "%s:\n%s", what, report.text().c_str());
}

// The widths, granularities and symmetries that every kernel is swept over. 48 is whole steps and no whole tile, 20 is
// neither.
inline std::vector<Format> formats() {
  std::vector<Format> all;
  for (int bits = 2; bits <= 8; ++bits) {
    for (const std::int64_t group_size : {0, 16, 20, 32, 48, 64, 128}) {
      for (const bool symmetric : {true, false}) {
        all.push_back({bits, group_size, symmetric, (bits + static_cast<int>(group_size) / 16) % 3});
      }
    }
  }
  return all;
}

}  // namespace cases
