#include "eqnet/linear.h"

#include <algorithm>
#include <cstring>

#include "activations.h"
#include "eqnet/threads.h"
#include "kernels.h"
#include "scratch.h"

namespace eqnet {
namespace {

constexpr std::int64_t kTaskBytes = 32768;    // of weights, which one thread takes at a time
constexpr std::int64_t kSerialBytes = 49152;  // of weights times rows, below which a second thread is not worth waking
constexpr std::int64_t kRowBlock = 96;        // rows of integers of one task: whole tiles, and whole rows of digits
constexpr std::int64_t kFloatRowBlock = 240;  // rows of one task of floats, for which a part of a panel is dequantized
constexpr std::int64_t kFloatCols = 256;      // columns of such a part: 32 KiB

const LinearKernels& kernels() {
  static const LinearKernels& best = [&]() -> const LinearKernels& {
    const Isa wanted = isa();
    const LinearKernels* const* table = kLinearKernels;
    while ((*table)->isa != wanted && (*table)->isa != Isa::kPortable) ++table;
    return **table;
  }();
  return best;
}

std::uint16_t to_bfloat(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40);  // a quiet NaN
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);                   // half to even
}

// Where results go.
struct Output {
  void* y;
  Element element;
  std::int64_t cols;
  const float* bias;        // or null
  const float* correction;  // or null
  float correction_scale;

  // Stores the sums of one panel for one row.
  void store(std::int64_t row, std::int64_t panel, const float* sums) const {
    const std::int64_t first = panel * kPanel;
    const std::int64_t count = std::min(kPanel, cols - first);
    float values[kPanel];
    for (std::int64_t i = 0; i < count; ++i) {
      values[i] = sums[i];
      if (correction != nullptr) values[i] += correction_scale * correction[first + i];
      if (bias != nullptr) values[i] += bias[first + i];
    }
    if (element == Element::kFloat32) {
      std::memcpy(static_cast<float*>(y) + row * cols + first, values, static_cast<std::size_t>(count) * sizeof(float));
    } else {
      std::uint16_t* to = static_cast<std::uint16_t*>(y) + row * cols + first;
      for (std::int64_t i = 0; i < count; ++i) to[i] = to_bfloat(values[i]);
    }
  }
};

// Segments of a part of a panel; whole blocks.
std::int64_t part_segments(const PanelShape& shape) {
  const std::int64_t count = std::max<std::int64_t>(kFloatCols / shape.segment_cols(), 1);
  return shape.half_blocks() ? (count + 1) / 2 * 2 : count;
}

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

// Integers: a panel is unpacked in registers for every few rows, which costs nothing beside their products. Each row of
// the output is the sum of `parts` rows of x.
void multiply_integers(const LinearKernels& table, const Panels& weights, const Int8Rows& x, std::int64_t rows,
                       std::int64_t parts, const Output& output, int threads) {
  const PanelShape& shape = weights.shape;
  const std::int64_t per_task = std::max<std::int64_t>(1, kTaskBytes / std::max<std::int64_t>(shape.panel_bytes(), 1));
  const std::int64_t panel_tasks = (shape.panels() + per_task - 1) / per_task;
  const std::int64_t row_block = kRowBlock / parts;
  const std::int64_t row_tasks = (rows + row_block - 1) / row_block;
  const bool serial = shape.code_bytes() * rows * parts < kSerialBytes;
  parallel_for(panel_tasks * row_tasks, serial ? 1 : threads, [&](std::int64_t task) {
    const std::int64_t first_panel = task / row_tasks * per_task;
    const std::int64_t first_row = task % row_tasks * row_block;
    const std::int64_t count = std::min(row_block, rows - first_row);
    alignas(64) float sums[kRowBlock * kPanel];
    for (std::int64_t panel = first_panel; panel < std::min(first_panel + per_task, shape.panels()); ++panel) {
      for (std::int64_t row = 0; row < count * parts;) {
        const int tile = next_tile(table, count * parts - row);
        table.multiply[shape.bits][tile](weights, panel, x.from(first_row * parts + row), sums + row * kPanel);
        row += kTileRows[tile];
      }
      for (std::int64_t row = 0; row < count; ++row) {
        float* first = sums + row * parts * kPanel;
        for (std::int64_t i = kPanel; i < parts * kPanel; ++i) first[i % kPanel] += first[i];
        output.store(first_row + row, panel, first);
      }
    }
  });
}

// Floats: each part of a panel is dequantized into memory of the thread, and read from there for every few rows.
void multiply_floats(const LinearKernels& table, const Panels& weights, const FloatRows& x, std::int64_t rows,
                     const Output& output, int threads) {
  struct Memory {
    Scratch tile, sums;
  };
  const PanelShape& shape = weights.shape;
  const std::int64_t part = part_segments(shape);
  const std::int64_t row_tasks = (rows + kFloatRowBlock - 1) / kFloatRowBlock;
  parallel_for(shape.panels() * row_tasks, threads, [&](std::int64_t task) {
    static thread_local Memory memory;
    const std::int64_t panel = task / row_tasks;
    const std::int64_t first_row = task % row_tasks * kFloatRowBlock;
    const std::int64_t count = std::min(kFloatRowBlock, rows - first_row);
    auto* tile = memory.tile.get<float>(part * shape.segment_cols() * kPanel);
    auto* sums = memory.sums.get<float>(count * kPanel);
    std::fill(sums, sums + count * kPanel, 0.0f);
    for (std::int64_t first = 0; first < shape.segments(); first += part) {
      const std::int64_t segments = std::min(part, shape.segments() - first);
      table.unpack[shape.bits](weights, panel, first, segments, tile);
      const float* values = x.values + first_row * x.stride + first * shape.segment_cols();
      for (std::int64_t row = 0; row < count; row += table.float_tile_rows) {
        const std::int64_t size = std::min<std::int64_t>(count - row, table.float_tile_rows);
        table.gemm_float[size](tile, segments * shape.segment_cols(), values + row * x.stride, x.stride,
                               sums + row * kPanel);
      }
    }
    for (std::int64_t row = 0; row < count; ++row) output.store(first_row + row, panel, sums + row * kPanel);
  });
}

}  // namespace

void linear(const Panels& weights, const void* x, void* y, Element element, std::int64_t rows, const float* bias,
            Compute compute, const StaticInput* input, const float* correction, int threads) {
  static thread_local Activations activations;
  const LinearKernels& table = kernels();
  Output output{y, element, weights.shape.rows, bias, nullptr, 0.0f};
  if (compute == Compute::kStatic) {
    // sum w (code - zero) = sum w (code - offset) - (zero - offset) sum w
    output.correction = correction;
    output.correction_scale = -input->scale * static_cast<float>(input->zero_point - static_offset(*input));
  }
  if (rows == 0 || weights.shape.rows == 0) return;
  if (compute == Compute::kFloat && rows > table.digit_rows) {
    activations.prepare(table, weights.shape, x, element, rows, rows, Form::kFloats, nullptr, threads);
    multiply_floats(table, weights, activations.float_rows(), rows, output, threads);
    return;
  }
  const Form form = compute == Compute::kInt8     ? Form::kInt8
                    : compute == Compute::kStatic ? Form::kStatic
                                                  : Form::kDigits;
  const std::int64_t parts = form == Form::kDigits ? kDigits : 1;
  activations.prepare(table, weights.shape, x, element, rows, tiled_rows(table, rows * parts), form, input, threads);
  multiply_integers(table, weights, activations.int8_rows(), rows, parts, output, threads);
}

void dequantize_panels(const Panels& weights, float* out, int threads) {
  const LinearKernels& table = kernels();
  const PanelShape& shape = weights.shape;
  const std::int64_t part = part_segments(shape);
  parallel_for(shape.panels(), threads, [&](std::int64_t panel) {
    static thread_local Scratch memory;
    const std::int64_t rows = std::min(kPanel, shape.rows - panel * kPanel);
    auto* tile = memory.get<float>(shape.padded_cols() * kPanel);
    for (std::int64_t first = 0; first < shape.segments(); first += part) {
      table.unpack[shape.bits](weights, panel, first, std::min(part, shape.segments() - first),
                               tile + first * shape.segment_cols() * kPanel);
    }
    for (std::int64_t group = 0; group < shape.groups(); ++group) {
      const std::int64_t column = group * shape.group_size;
      const std::int64_t size = std::min(shape.group_size, shape.cols - column);
      const float* from = tile + shape.group_start(group) * kPanel;
      for (std::int64_t r = 0; r < rows; ++r) {
        float* to = out + (panel * kPanel + r) * shape.cols + column;
        for (std::int64_t i = 0; i < size; ++i) to[i] = from[i * kPanel + r];
      }
    }
  });
}

}  // namespace eqnet
