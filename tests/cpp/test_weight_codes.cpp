// Codes of weights: nothing is touched but what is given, by any number of threads, and errors are those of the codes.
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "eqnet/weight_codes.h"
#include "guarded.h"
#include "stored.h"

namespace {

using check::Draw;
using check::Guarded;
using eqnet::ScaleType;

struct Case {
  std::int64_t rows, cols, group_size;
  int bits;
  bool symmetric, compensated, ordered;
};

// Errors that are not those of the codes, of all elements.
int wrong(const Case& c, int threads, Draw& draw) {
  const std::int64_t groups = (c.cols + c.group_size - 1) / c.group_size;
  Guarded<float> weight(c.rows * c.cols), importance(c.cols), factor(c.cols * c.cols);
  Guarded<float> scale(c.rows * groups), zero_point(c.rows * groups), error(c.rows * c.cols);
  Guarded<std::uint8_t> codes(c.rows * c.cols);
  Guarded<std::int64_t> order(c.cols);
  Guarded<double> forms(c.rows);
  for (std::int64_t i = 0; i < weight.size(); ++i) weight[i] = draw.real(-1, 1);
  for (std::int64_t i = 0; i < c.cols; ++i) {
    importance[i] = draw.real(0, 1);
    order[i] = c.cols - 1 - i;
    for (std::int64_t k = 0; k < c.cols; ++k) {  // what is above the diagonal is not to be used
      factor[i * c.cols + k] = k > i ? std::numeric_limits<float>::quiet_NaN() : k == i ? 1.0f : draw.real(-0.1f, 0.1f);
    }
  }
  eqnet::weight_codes(weight.data(), c.rows, c.cols, {c.bits, c.symmetric, c.group_size, ScaleType::kFloat16},
                      {true, importance.data(), c.compensated ? factor.data() : nullptr,
                       c.ordered ? order.data() : nullptr},
                      codes.data(), scale.data(), zero_point.data(), error.data(),
                      c.compensated ? forms.data() : nullptr, threads);
  const float lowest = c.symmetric ? -static_cast<float>(1 << (c.bits - 1)) : 0.0f;
  int count = 0;
  for (std::int64_t i = 0; i < weight.size(); ++i) {
    const std::int64_t group = i / c.cols * groups + i % c.cols / c.group_size;
    const float value = (static_cast<float>(codes[i]) + lowest - zero_point[group]) * scale[group];
    count += !(error[i] == value - weight[i]) || codes[i] >= 1 << c.bits;
  }
  return count;
}

TEST(weight_codes_keep_to_their_memory) {
  Draw draw;
  for (const Case& c : {Case{1, 1, 1, 2, true, true, false}, Case{17, 33, 16, 4, false, false, false},
                        Case{70, 150, 48, 3, false, true, false}, Case{130, 140, 140, 8, true, true, false},
                        Case{65, 137, 32, 5, false, true, true}}) {
    for (const int threads : {1, 3}) {
      const int found = wrong(c, threads, draw);
      EXPECT(found == 0, "%d errors of %ld x %ld on %d threads", found, static_cast<long>(c.rows),
             static_cast<long>(c.cols), threads);
    }
  }
}

TEST(weight_codes_have_quadratic_forms) {
  Draw draw;
  constexpr std::int64_t kRows = 70, kCols = 37;
  Guarded<float> x(kRows * kCols), matrix(kCols * kCols);
  Guarded<double> forms(kRows);
  for (std::int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(draw.integer(-8, 8));
  for (std::int64_t i = 0; i < kCols; ++i) {
    for (std::int64_t k = 0; k <= i; ++k) {
      matrix[i * kCols + k] = static_cast<float>(draw.integer(-8, 8));
      matrix[k * kCols + i] = i == k ? matrix[i * kCols + i] : std::numeric_limits<float>::quiet_NaN();
    }
  }
  eqnet::quadratic_forms(x.data(), kRows, kCols, matrix.data(), forms.data(), 3);
  for (std::int64_t r = 0; r < kRows; ++r) {
    double expected = 0;  // of small whole numbers: exact
    for (std::int64_t i = 0; i < kCols; ++i) {
      for (std::int64_t k = 0; k <= i; ++k) {
        expected += (i == k ? 1 : 2) * x[r * kCols + i] * matrix[i * kCols + k] * x[r * kCols + k];
      }
    }
    EXPECT(forms[r] == expected, "row %d: %g and %g", static_cast<int>(r), forms[r], expected);
  }
}

}  // namespace
