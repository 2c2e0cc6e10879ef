// Panels and rows of tables against the codes as they are stored.
#include "check.h"
#include "eqnet/embedding.h"
#include "eqnet/linear.h"
#include "stored.h"

namespace {

using check::Draw;
using check::Guarded;
using check::Prepared;
using check::Weight;
using eqnet::PanelShape;
using eqnet::ScaleType;

// Calls with(weight, threads) for weights of all widths and awkward shapes.
template <class With>
void each_weight(const With& with) {
  Draw draw;
  int turn = 0;
  const std::int64_t shapes[][2] = {{1, 1}, {5, 7}, {33, 31}, {32, 64}, {3, 520}, {70, 129}};
  for (int bits = 2; bits <= 8; ++bits) {
    for (const auto& [rows, cols] : shapes) {
      for (const std::int64_t group : {1, 5, 16, 17, 32, 64, 1000}) {
        for (const bool symmetric : {false, true}) {
          const PanelShape shape{rows, cols, std::min<std::int64_t>(group, cols), bits};
          with(Weight(shape, static_cast<ScaleType>(turn % 3), turn % 5 != 0, symmetric, draw), 1 + turn % 2 * 2);
          ++turn;
        }
      }
    }
  }
}

TEST(panels_hold_what_is_stored) {
  each_weight([](const Weight& weight, int threads) {
    const PanelShape& shape = weight.shape;
    const Prepared prepared(weight, threads);
    Guarded<float> out(shape.rows * shape.cols);
    eqnet::dequantize_panels(prepared.view, out.data(), threads);
    for (std::int64_t row = 0; row < shape.rows; ++row) {
      for (std::int64_t col = 0; col < shape.cols; ++col) {
        EXPECT(out[row * shape.cols + col] == static_cast<float>(weight.value(row, col)),
               "%d bits, [%d, %d] of [%d, %d] in groups of %d", shape.bits, static_cast<int>(row),
               static_cast<int>(col), static_cast<int>(shape.rows), static_cast<int>(shape.cols),
               static_cast<int>(shape.group_size));
      }
    }
  });
}

TEST(rows_of_a_table_are_those_stored) {
  each_weight([](const Weight& weight, int threads) {
    const PanelShape& shape = weight.shape;
    const eqnet::Table table{shape.rows,  shape.cols,     shape.group_size,
                             shape.bits,  weight.codes.data(), weight.scales.data(),
                             weight.type, weight.per_row, weight.symmetric ? nullptr : weight.zeros.data()};
    const Guarded<std::int64_t> indices(std::vector<std::int64_t>{shape.rows - 1, 0, shape.rows / 2, 0});
    Guarded<float> out(indices.size() * shape.cols);
    eqnet::gather_rows(table, indices.data(), indices.size(), out.data(), threads);
    for (std::int64_t i = 0; i < out.size(); ++i) {
      EXPECT(out[i] == static_cast<float>(weight.value(indices[i / shape.cols], i % shape.cols)),
             "%d bits, element %d of rows of [%d, %d] in groups of %d", shape.bits, static_cast<int>(i),
             static_cast<int>(shape.rows), static_cast<int>(shape.cols), static_cast<int>(shape.group_size));
    }
  });
}

}  // namespace
