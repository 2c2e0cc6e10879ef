// Products of prepared rows with panels, for whoever decides what becomes of them: `linear` stores them, a decoder takes
// several weights at once and goes on.
#pragma once

#include <algorithm>
#include <cstdint>

#include "activations.h"
#include "eqnet/linear.h"
#include "eqnet/threads.h"
#include "kernels.h"

namespace eqnet {

// The kernels of this processor.
const LinearKernels& linear_kernels();

// Whether rows that were prepared for one weight serve for the other.
inline bool same_layout(const PanelShape& a, const PanelShape& b) {
  return a.cols == b.cols && a.group_size == b.group_size;
}

class Product {
 public:
  // The most rows of one task, for which it needs memory.
  static constexpr std::int64_t kMostRows = 240;

  // Makes of `rows` of x, row-major [rows, shape.cols], what any weight of this layout is multiplied by.
  void prepare(const PanelShape& shape, const void* x, Element element, std::int64_t rows, Compute compute,
               const StaticInput* input, int threads);

  // sums[count, 32]: the rows [first, first + count), of one task, times a panel. Has room for kMostRows.
  void multiply(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count, float* sums) const;

  // Calls body(weight, panel, first row, rows) for every panel of `count` weights and all rows, on several threads. What
  // it does may be `factor` times the work of multiplying by that panel.
  template <class Body>
  void each_panel(const Panels* const* weights, int count, int factor, int threads, const Body& body) const {
    Cut cuts[kMostWeights];
    std::int64_t tasks = 0, bytes = 0;
    for (int i = 0; i < count; ++i) {
      cuts[i] = cut(weights[i]->shape, factor);
      tasks += cuts[i].panel_tasks * row_tasks();
      bytes += weights[i]->shape.code_bytes() * factor;
    }
    parallel_for(tasks, worth_waking(bytes) ? threads : 1, [&](std::int64_t task) {
      int weight = 0;
      for (; task >= cuts[weight].panel_tasks * row_tasks(); ++weight) task -= cuts[weight].panel_tasks * row_tasks();
      const std::int64_t first_panel = task / row_tasks() * cuts[weight].per_task;
      const std::int64_t first_row = task % row_tasks() * row_block_;
      const std::int64_t end = std::min(first_panel + cuts[weight].per_task, weights[weight]->shape.panels());
      for (std::int64_t panel = first_panel; panel < end; ++panel) {
        body(weight, panel, first_row, std::min(row_block_, rows_ - first_row));
      }
    });
  }

  static constexpr int kMostWeights = 3;

 private:
  struct Cut {
    std::int64_t per_task;  // panels
    std::int64_t panel_tasks;
  };

  std::int64_t row_tasks() const { return (rows_ + row_block_ - 1) / row_block_; }
  Cut cut(const PanelShape& shape, int factor) const;
  bool worth_waking(std::int64_t bytes) const;
  void multiply_floats(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count,
                       float* sums) const;

  Activations activations_;
  Form form_ = Form::kFloats;
  std::int64_t rows_ = 0, row_block_ = 1;
  std::int64_t parts_ = 1;  // rows of integers that one row is the sum of
};

}  // namespace eqnet
