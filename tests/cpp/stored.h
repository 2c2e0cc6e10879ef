// Weights as they are stored, drawn at random, and what they stand for: a scalar reference in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "eqnet/panels.h"
#include "guarded.h"

namespace check {

struct Draw {
  std::mt19937 random{1};

  int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }
  float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); }
};

// The planes of eqnet/packed/planes.py.
inline std::int64_t stored_bytes(std::int64_t count, int bits) {
  std::int64_t bytes = 0;
  for (const int width : {8, 4, 2, 1}) bytes += (bits & width) != 0 ? (count * width + 7) / 8 : 0;
  return bytes;
}

inline int stored_code(const std::uint8_t* planes, std::int64_t count, std::int64_t index, int bits) {
  int code = 0, done = 0;
  for (const int width : {8, 4, 2, 1}) {
    if ((bits & width) == 0) continue;
    const std::int64_t bit = index * width;
    code |= (planes[bit / 8] >> bit % 8 & ((1 << width) - 1)) << done;
    planes += (count * width + 7) / 8;
    done += width;
  }
  return code;
}

// The value of a scale as it is stored, in `type`.
inline double stored_scale(const std::uint8_t* bytes, eqnet::ScaleType type, std::int64_t index) {
  if (type == eqnet::ScaleType::kFloat32) {
    float value;
    std::memcpy(&value, bytes + 4 * index, 4);
    return value;
  }
  std::uint16_t half;
  std::memcpy(&half, bytes + 2 * index, 2);
  const bool ieee = type == eqnet::ScaleType::kFloat16;
  const int fraction_bits = ieee ? 10 : 7, exponent_bits = ieee ? 5 : 8;
  const int fraction = half & ((1 << fraction_bits) - 1), exponent = half >> fraction_bits & ((1 << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  return exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                       : std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

struct Weight {
  eqnet::PanelShape shape;
  eqnet::ScaleType type;
  bool per_row, symmetric;
  Guarded<std::uint8_t> codes, scales, zeros;

  Weight(const eqnet::PanelShape& shape, eqnet::ScaleType type, bool per_row, bool symmetric, Draw& draw)
      : shape(shape),
        type(type),
        per_row(per_row),
        symmetric(symmetric),
        codes(stored_bytes(shape.rows * shape.cols, shape.bits)),
        scales(scale_bytes() * scale_count(), static_cast<std::size_t>(scale_bytes())),
        zeros(symmetric ? 0 : stored_bytes(scale_count(), shape.bits)) {
    fill(codes, draw);
    fill(zeros, draw);
    for (std::int64_t i = 0; i < scale_count(); ++i) {
      // Any fraction, and exponents of about 2^-8; once in a while a subnormal number of float16.
      const auto half = static_cast<std::uint16_t>(draw.integer(0, 15) == 0 ? draw.integer(1, 1023)
                                                                           : draw.integer(6 << 10, 8 << 10));
      const auto brain = static_cast<std::uint16_t>(draw.integer(118 << 7, 120 << 7));
      const float single = draw.real(0.004f, 0.01f);
      const void* from = type == eqnet::ScaleType::kFloat16    ? static_cast<const void*>(&half)
                         : type == eqnet::ScaleType::kBfloat16 ? static_cast<const void*>(&brain)
                                                               : &single;
      std::memcpy(scales.data() + scale_bytes() * i, from, static_cast<std::size_t>(scale_bytes()));
    }
  }

  int scale_bytes() const { return type == eqnet::ScaleType::kFloat32 ? 4 : 2; }
  std::int64_t scale_count() const { return (per_row ? shape.rows : 1) * shape.groups(); }
  std::int64_t scale_index(std::int64_t row, std::int64_t col) const {
    return (per_row ? row * shape.groups() : 0) + col / shape.group_size;
  }
  double scale(std::int64_t row, std::int64_t col) const {
    return stored_scale(scales.data(), type, scale_index(row, col));
  }
  int zero(std::int64_t row, std::int64_t col) const {
    if (symmetric) return 1 << (shape.bits - 1);
    return stored_code(zeros.data(), scale_count(), scale_index(row, col), shape.bits);
  }
  int code(std::int64_t row, std::int64_t col) const {
    return stored_code(codes.data(), shape.rows * shape.cols, row * shape.cols + col, shape.bits);
  }
  // Exact: 9 bits times 24.
  double value(std::int64_t row, std::int64_t col) const {
    return (code(row, col) - zero(row, col)) * scale(row, col);
  }

 private:
  static void fill(Guarded<std::uint8_t>& bytes, Draw& draw) {
    for (std::int64_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(draw.integer(0, 255));
  }
};

// The same as panels.
struct Prepared {
  Guarded<std::uint8_t> codes, scales, zeros;
  eqnet::Panels view;

  Prepared(const Weight& weight, int threads)
      : codes(weight.shape.code_bytes(), 64),
        scales(weight.shape.scale_count() * weight.scale_bytes(), static_cast<std::size_t>(weight.scale_bytes())),
        zeros(weight.symmetric ? 0 : weight.shape.scale_count()),
        view{weight.shape, codes.data(), scales.data(), weight.type, weight.symmetric ? nullptr : zeros.data()} {
    eqnet::fill_panels(weight.shape, weight.codes.data(), weight.scales.data(), weight.scale_bytes(), weight.per_row,
                       weight.symmetric ? nullptr : weight.zeros.data(), codes.data(), scales.data(),
                       weight.symmetric ? nullptr : zeros.data(), threads);
  }
};

}  // namespace check
