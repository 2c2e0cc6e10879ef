// Products with packed weights against sums in double, for every width, way to compute and kind of shape.
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "eqnet/linear.h"
#include "stored.h"

namespace {

using check::Draw;
using check::Guarded;
using check::Prepared;
using check::Weight;
using eqnet::Compute;
using eqnet::Element;
using eqnet::PanelShape;
using eqnet::ScaleType;
using eqnet::StaticInput;

constexpr double kRounding = 1e-6;         // relative to the sum of absolute products: roundings of float32, 6e-8 each
constexpr double kBfloat = 1.0 / 256;      // relative: one rounding to 8 bits
constexpr float kStaticScale = 0.25f;      // powers of 2, so that what is rounded to is exact

const StaticInput kStatics[] = {
    {kStaticScale, 100, 0, 255}, {kStaticScale, 0, -128, 127}, {kStaticScale, 7, 0, 15}, {kStaticScale, 0, -2, 1}};

struct Call {
  std::int64_t rows;
  Compute compute;
  Element element;
  bool has_bias;
  StaticInput input;
  int threads;
};

// The columns over which int8 activations share a scale: 32 of a group from its start on.
std::int64_t segment_of(const PanelShape& shape, std::int64_t col) {
  const std::int64_t group = col / shape.group_size;
  return group * shape.cols + (col - group * shape.group_size) / 32;
}

// One row of x, exact in bfloat16. For kInt8 the largest of each segment is 127 times a power of 2, and for kInt8 and
// kStatic many elements are in the middle between two codes.
void draw_row(const PanelShape& shape, const Call& call, Draw& draw, std::vector<double>& x) {
  int exponent = 0;
  for (std::int64_t col = 0, last = -1; col < shape.cols; ++col) {
    const std::int64_t segment = segment_of(shape, col);
    if (call.compute == Compute::kStatic) {
      x[col] = kStaticScale / 4 * draw.integer(4 * (call.input.qmin - call.input.zero_point) - 9,
                                               4 * (call.input.qmax - call.input.zero_point) + 9);
    } else if (segment != last) {
      exponent = draw.integer(-9, 9);
      x[col] = std::ldexp(draw.integer(0, 1) == 0 ? 127 : -127, exponent);
    } else {
      x[col] = std::ldexp(draw.integer(-254, 254) * 0.5, exponent);
    }
    last = segment;
    const auto single = static_cast<float>(x[col]);
    std::uint32_t bits;
    std::memcpy(&bits, &single, 4);
    bits &= 0xffff0000u;
    float cut;
    std::memcpy(&cut, &bits, 4);
    x[col] = cut;
  }
}

// What x is rounded to before it is multiplied. For kInt8, the first of each segment is the largest.
std::vector<double> rounded(const PanelShape& shape, const Call& call, const std::vector<double>& x) {
  std::vector<double> result(x);
  double unit = 1;
  for (std::int64_t col = 0, last = -1; col < shape.cols && call.compute != Compute::kFloat; ++col) {
    if (call.compute == Compute::kStatic) {
      const double code = std::nearbyint(x[col] / call.input.scale) + call.input.zero_point;
      result[col] = (std::fmin(std::fmax(code, call.input.qmin), call.input.qmax) - call.input.zero_point) *
                    call.input.scale;
      continue;
    }
    if (segment_of(shape, col) != last) unit = std::fabs(x[col]) / 127;
    last = segment_of(shape, col);
    result[col] = std::nearbyint(x[col] / unit) * unit;
  }
  return result;
}

double element_at(const Guarded<std::uint8_t>& bytes, Element element, std::int64_t index) {
  float value = 0;
  if (element == Element::kFloat32) {
    std::memcpy(&value, bytes.data() + 4 * index, 4);
  } else {
    std::memcpy(reinterpret_cast<char*>(&value) + 2, bytes.data() + 2 * index, 2);  // little-endian
  }
  return value;
}

void put_element(Guarded<std::uint8_t>& bytes, Element element, std::int64_t index, double value) {
  const auto single = static_cast<float>(value);
  if (element == Element::kFloat32) {
    std::memcpy(bytes.data() + 4 * index, &single, 4);
  } else {
    std::memcpy(bytes.data() + 2 * index, reinterpret_cast<const char*>(&single) + 2, 2);
  }
}

void compare(const Weight& weight, const Prepared& prepared, const Call& call, Draw& draw) {
  const PanelShape& shape = weight.shape;
  const std::int64_t size = call.element == Element::kFloat32 ? 4 : 2;
  std::vector<std::vector<double>> x(call.rows, std::vector<double>(shape.cols));
  Guarded<std::uint8_t> x_bytes(call.rows * shape.cols * size, size), y_bytes(call.rows * shape.rows * size, size);
  for (std::int64_t row = 0; row < call.rows; ++row) {
    draw_row(shape, call, draw, x[row]);
    for (std::int64_t col = 0; col < shape.cols; ++col) {
      put_element(x_bytes, call.element, row * shape.cols + col, x[row][col]);
    }
    x[row] = rounded(shape, call, x[row]);
  }
  std::vector<double> values(shape.rows * shape.cols), sizes(values.size());
  Guarded<float> bias(shape.rows), correction(shape.rows);
  for (std::int64_t o = 0; o < shape.rows; ++o) {
    double sum = 0;
    for (std::int64_t col = 0; col < shape.cols; ++col) {
      const std::int64_t at = o * shape.cols + col;
      values[at] = weight.value(o, col);
      sizes[at] = (weight.code(o, col) + weight.zero(o, col)) * weight.scale(o, col);
      sum += values[at];
    }
    correction[o] = static_cast<float>(sum);
    bias[o] = draw.real(-1, 1);
  }
  const auto multiply = [&] {
    eqnet::linear(prepared.view, x_bytes.data(), y_bytes.data(), call.element, call.rows,
                  call.has_bias ? bias.data() : nullptr, call.compute,
                  call.compute == Compute::kStatic ? &call.input : nullptr,
                  call.compute == Compute::kStatic ? correction.data() : nullptr, call.threads);
  };
  std::thread(multiply).join();  // a new thread has no memory of other calls, which would be larger than needed
  for (std::int64_t row = 0; row < call.rows; ++row) {
    for (std::int64_t o = 0; o < shape.rows; ++o) {
      double exact = call.has_bias ? bias[o] : 0, products = std::fabs(exact);
      for (std::int64_t col = 0; col < shape.cols; ++col) {
        exact += values[o * shape.cols + col] * x[row][col];
        // Static codes are shifted by their zero point, and the shift is taken back.
        const double shift = call.compute == Compute::kStatic ? 2 * 128 * call.input.scale : 0;
        products += sizes[o * shape.cols + col] * (std::fabs(x[row][col]) + shift);
      }
      const double found = element_at(y_bytes, call.element, row * shape.rows + o);
      const double bound = kRounding * products + (call.element == Element::kBfloat16 ? kBfloat * std::fabs(exact) : 0);
      EXPECT(std::fabs(found - exact) <= bound,
             "%g, not %g, at [%d, %d]: %d bits, [%d, %d], groups of %d, %d rows, compute %d, element %d, threads %d",
             found, exact, static_cast<int>(row), static_cast<int>(o), shape.bits, static_cast<int>(shape.rows),
             static_cast<int>(shape.cols), static_cast<int>(shape.group_size), static_cast<int>(call.rows),
             static_cast<int>(call.compute), static_cast<int>(call.element), call.threads);
    }
  }
}

const Compute kComputes[] = {Compute::kFloat, Compute::kInt8, Compute::kStatic};

TEST(linear_of_every_width_and_shape) {
  Draw draw;
  int turn = 0;
  const std::int64_t shapes[][2] = {{1, 1}, {5, 7}, {31, 33}, {33, 64}, {40, 130}, {64, 96}};
  for (int bits = 2; bits <= 8; ++bits) {
    for (const auto& [rows, cols] : shapes) {
      for (const std::int64_t group : {1, 3, 16, 17, 32, 33, 64, 1000}) {
        const PanelShape shape{rows, cols, std::min<std::int64_t>(group, cols), bits};
        const Weight weight(shape, static_cast<ScaleType>(turn % 3), turn % 7 != 0, turn % 2 == 0, draw);
        const Prepared prepared(weight, 1);
        for (int i = 0; i < 6; ++i, ++turn) {  // rows of 1 to 17 meet everything else in turn
          compare(weight, prepared,
                  {1 + turn % 17, kComputes[i % 3], i < 3 ? Element::kFloat32 : Element::kBfloat16, turn % 4 != 0,
                   kStatics[turn / 3 % 4], 1 + turn % 5 / 4 * 2},
                  draw);
        }
        ++turn;
      }
    }
  }
}

// Enough work for several threads, several parts of a panel, and several blocks of rows.
TEST(linear_in_parts) {
  Draw draw;
  const std::int64_t cases[][4] = {{130, 700, 700, 1}, {130, 700, 100, 2}, {40, 2500, 64, 17}, {33, 40, 16, 300},
                                   {70, 1056, 1056, 5}, {96, 1040, 8, 4},  {3, 33, 33, 600}};
  for (const auto& [rows, cols, group, count] : cases) {
    for (const int bits : {3, 8}) {
      const Weight weight({rows, cols, group, bits}, ScaleType::kFloat32, true, bits == 8, draw);
      const Prepared prepared(weight, 3);
      for (const Compute compute : kComputes) {
        compare(weight, prepared, {count, compute, Element::kFloat32, true, kStatics[0], 3}, draw);
      }
    }
  }
}

TEST(linear_of_nothing) {
  Draw draw;
  for (const Compute compute : kComputes) {
    const Call call{0, compute, Element::kFloat32, true, kStatics[0], 2};
    const Weight weight({5, 7, 7, 4}, ScaleType::kFloat32, true, false, draw);
    const Weight empty({0, 7, 7, 4}, ScaleType::kFloat32, true, true, draw);
    compare(weight, Prepared(weight, 1), call, draw);
    compare(empty, Prepared(empty, 1), {3, compute, Element::kFloat32, false, kStatics[0], 2}, draw);
  }
}

TEST(linear_from_several_threads_at_once) {
  Draw draw;
  const Weight weight({96, 640, 64, 4}, ScaleType::kFloat16, true, false, draw);
  const Prepared prepared(weight, 2);
  std::vector<std::thread> callers;
  for (unsigned i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      Draw own{std::mt19937{i}};
      for (int turn = 0; turn < 5; ++turn) {
        const int rows = i % 2 == 0 ? 1 : 12;
        compare(weight, prepared, {rows, kComputes[turn % 3], Element::kFloat32, true, kStatics[0], 2}, own);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
