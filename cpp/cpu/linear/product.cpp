#include "product.h"

#include <algorithm>

#include "scratch.h"

namespace eqnet {
namespace {

constexpr std::int64_t kTaskBytes = 32768;    // of weights, which one thread takes at a time
constexpr std::int64_t kSerialBytes = 49152;  // of weights times rows, below which a second thread is not worth waking
constexpr std::int64_t kRowBlock = 96;        // rows of integers of one task: whole tiles, and whole rows of digits

// Which of kTileRows the next rows are taken by, when so many are left: all of the most, or as few as hold the rest.
int next_tile(const LinearKernels& table, std::int64_t left) {
  int tile = table.tiles - 1;
  while (tile > 0 && kTileRows[tile - 1] >= left) --tile;
  return tile;
}

// Rows that the tiles cover.
std::int64_t tiled_rows(const LinearKernels& table, std::int64_t rows) {
  const std::int64_t most = kTileRows[table.tiles - 1];
  const std::int64_t rest = rows % most;
  return rows - rest + (rest > 0 ? kTileRows[next_tile(table, rest)] : 0);
}

Form form_of(const LinearKernels& table, Compute compute, std::int64_t rows) {
  if (compute == Compute::kInt8) return Form::kInt8;
  if (compute == Compute::kStatic) return Form::kStatic;
  return rows > table.digit_rows ? Form::kFloats : Form::kDigits;
}

}  // namespace

const LinearKernels& linear_kernels() {
  static const LinearKernels& best = [&]() -> const LinearKernels& {
    const Isa wanted = isa();
    const LinearKernels* const* table = kLinearKernels;
    while ((*table)->isa != wanted && (*table)->isa != Isa::kPortable) ++table;
    return **table;
  }();
  return best;
}

void Product::prepare(const PanelShape& shape, const void* x, Element element, std::int64_t rows, Compute compute,
                      const StaticInput* input, int threads) {
  const LinearKernels& table = linear_kernels();
  form_ = form_of(table, compute, rows);
  parts_ = form_ == Form::kDigits ? kDigits : 1;
  rows_ = rows;
  row_block_ = form_ == Form::kFloats ? kMostRows : kRowBlock / parts_;
  const std::int64_t made = form_ == Form::kFloats ? rows : tiled_rows(table, rows * parts_);
  activations_.prepare(table, shape, x, element, rows, made, form_, input, threads);
}

Product::Cut Product::cut(const PanelShape& shape, int factor) const {
  const std::int64_t bytes = std::max<std::int64_t>(shape.panel_bytes() * factor, 1);
  const std::int64_t per_task = form_ == Form::kFloats ? 1 : std::max<std::int64_t>(1, kTaskBytes / bytes);
  return {per_task, (shape.panels() + per_task - 1) / per_task};
}

bool Product::worth_waking(std::int64_t bytes) const {
  return form_ == Form::kFloats || bytes * rows_ * parts_ >= kSerialBytes;
}

void Product::multiply(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count,
                       float* sums) const {
  if (form_ == Form::kFloats) {
    multiply_floats(weights, panel, first, count, sums);
    return;
  }
  // A panel is unpacked in registers for every few rows, which costs nothing beside their products.
  const LinearKernels& table = linear_kernels();
  for (std::int64_t row = 0; row < count * parts_;) {
    const int tile = next_tile(table, count * parts_ - row);
    table.multiply[weights.shape.bits][tile](weights, panel, activations_.int8_rows().from(first * parts_ + row),
                                             sums + row * kPanel);
    row += kTileRows[tile];
  }
  if (parts_ == 1) return;
  for (std::int64_t row = 0; row < count; ++row) {
    const float* digits = sums + row * parts_ * kPanel;
    float total[kPanel];
    std::copy(digits, digits + kPanel, total);
    for (std::int64_t i = kPanel; i < parts_ * kPanel; ++i) total[i % kPanel] += digits[i];
    std::copy(total, total + kPanel, sums + row * kPanel);  // where only digits that have been read are
  }
}

// Each part of a panel is dequantized into memory of the thread, and read from there for every few rows.
void Product::multiply_floats(const Panels& weights, std::int64_t panel, std::int64_t first, std::int64_t count,
                              float* sums) const {
  static thread_local Scratch memory;
  const LinearKernels& table = linear_kernels();
  const PanelShape& shape = weights.shape;
  const FloatRows& x = activations_.float_rows();
  auto* tile = memory.get<float>(kFloatBlocks * kBlock * kPanel);
  std::fill(sums, sums + count * kPanel, 0.0f);
  for (std::int64_t block = 0; block < shape.blocks(); block += kFloatBlocks) {
    const std::int64_t blocks = std::min(kFloatBlocks, shape.blocks() - block);
    table.unpack[shape.bits](weights, panel, block, blocks, tile);
    const float* values = x.values + first * x.stride + block * kBlock;
    for (std::int64_t row = 0; row < count; row += table.float_tile_rows) {
      const std::int64_t size = std::min<std::int64_t>(count - row, table.float_tile_rows);
      table.gemm_float[size](tile, blocks * kBlock, values + row * x.stride, x.stride, sums + row * kPanel);
    }
  }
}

}  // namespace eqnet
