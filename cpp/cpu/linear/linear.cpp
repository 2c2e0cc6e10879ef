#include "eqnet/linear.h"

#include <algorithm>
#include <cstring>

#include "activations.h"
#include "eqnet/threads.h"
#include "kernels.h"
#include "scratch.h"

namespace eqnet {
namespace {

constexpr std::int64_t kTaskBytes = 32768;    // of weights, which one thread takes at a time when few rows read them
constexpr std::int64_t kSerialBytes = 49152;  // of weights, below which a second thread is not worth waking
constexpr std::int64_t kRowBlock = 256;       // rows whose sums are kept while a part of a panel is unpacked
constexpr std::int64_t kInt8Cols = 2048;      // columns of a panel unpacked at once: 64 KiB, half of a small L2
constexpr std::int64_t kFloatCols = 256;      // 32 KiB

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

int log2_up(std::int64_t rows) { return rows > 4 ? 3 : rows > 2 ? 2 : rows > 1 ? 1 : 0; }

// Few rows: each panel is unpacked in registers. Each row of x is `per_row` rows of int8, whose results are added.
void decode(const LinearKernels& table, const Panels& weights, const Int8Rows& x, std::int64_t rows,
            std::int64_t per_row, const Output& output, int threads) {
  const PanelShape& shape = weights.shape;
  const std::int64_t per_task = std::max<std::int64_t>(1, kTaskBytes / std::max<std::int64_t>(shape.panel_bytes(), 1));
  const std::int64_t tasks = (shape.panels() + per_task - 1) / per_task;
  const auto kernel = table.decode[shape.bits][log2_up(rows * per_row)];
  parallel_for(tasks, shape.code_bytes() > kSerialBytes ? threads : 1, [&](std::int64_t task) {
    const std::int64_t end = std::min((task + 1) * per_task, shape.panels());
    for (std::int64_t panel = task * per_task; panel < end; ++panel) {
      alignas(64) float sums[8 * kPanel];
      kernel(weights, panel, x, sums);
      for (std::int64_t row = 0; row < rows; ++row) {
        float* first = sums + row * per_row * kPanel;
        for (std::int64_t part = 1; part < per_row; ++part) {
          for (std::int64_t i = 0; i < kPanel; ++i) first[i] += first[part * kPanel + i];
        }
        output.store(row, panel, first);
      }
    }
  });
}

// What a thread unpacks into.
struct TileMemory {
  Scratch codes, scale, zeros, weights, sums;
};

// Segments of a part of about `cols` columns; whole blocks.
std::int64_t part_segments(const PanelShape& shape, std::int64_t cols) {
  const std::int64_t count = std::max<std::int64_t>(cols / shape.segment_cols(), 1);
  return shape.half_blocks() ? (count + 1) / 2 * 2 : count;
}

void multiply_part_int8(const LinearKernels& table, const Panels& weights, std::int64_t panel, std::int64_t first,
                        std::int64_t count, const Int8Rows& x, std::int64_t row, std::int64_t rows, float* sums,
                        TileMemory& memory) {
  const std::int64_t cols = count * weights.shape.segment_cols();
  const Int8Tile tile{memory.codes.get<std::uint8_t>(cols * kPanel), memory.scale.get<float>(count * kPanel),
                      weights.zeros != nullptr ? memory.zeros.get<std::int32_t>(count * kPanel) : nullptr};
  table.unpack_int8[weights.shape.bits](weights, panel, first, count, tile);
  for (std::int64_t r = 0; r < rows; r += table.int8_tile_rows) {
    const std::int64_t size = std::min<std::int64_t>(rows - r, table.int8_tile_rows);
    table.gemm_int8[size](tile, weights.shape, first, count, x, row + r, sums + r * kPanel);
  }
}

void multiply_part_float(const LinearKernels& table, const Panels& weights, std::int64_t panel, std::int64_t first,
                         std::int64_t count, const FloatRows& x, std::int64_t row, std::int64_t rows, float* sums,
                         TileMemory& memory) {
  const std::int64_t cols = count * weights.shape.segment_cols();
  const std::int64_t start = first * weights.shape.segment_cols();
  auto* tile = memory.weights.get<float>(cols * kPanel);
  table.unpack_float[weights.shape.bits](weights, panel, first, count, tile);
  for (std::int64_t r = 0; r < rows; r += table.float_tile_rows) {
    const std::int64_t size = std::min<std::int64_t>(rows - r, table.float_tile_rows);
    table.gemm_float[size](tile, cols, x.values + (row + r) * x.stride + start, x.stride, sums + r * kPanel);
  }
}

// Many rows: each part of a panel is unpacked into memory of the thread, and read from there for every few rows.
void prefill(const LinearKernels& table, const Panels& weights, const Activations& x, std::int64_t rows, bool integers,
             const Output& output, int threads) {
  const PanelShape& shape = weights.shape;
  const std::int64_t part = part_segments(shape, integers ? kInt8Cols : kFloatCols);
  const std::int64_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  parallel_for(shape.panels() * row_blocks, threads, [&](std::int64_t task) {
    static thread_local TileMemory memory;
    const std::int64_t panel = task / row_blocks;
    const std::int64_t row = task % row_blocks * kRowBlock;
    const std::int64_t count = std::min(kRowBlock, rows - row);
    auto* sums = memory.sums.get<float>(count * kPanel);
    std::memset(sums, 0, static_cast<std::size_t>(count * kPanel) * sizeof(float));
    for (std::int64_t first = 0; first < shape.segments(); first += part) {
      const std::int64_t size = std::min(part, shape.segments() - first);
      if (integers) {
        multiply_part_int8(table, weights, panel, first, size, x.int8_rows(), row, count, sums, memory);
      } else {
        multiply_part_float(table, weights, panel, first, size, x.float_rows(), row, count, sums, memory);
      }
    }
    for (std::int64_t r = 0; r < count; ++r) output.store(row + r, panel, sums + r * kPanel);
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
  const std::int64_t per_row = compute == Compute::kFloat ? kDigits : 1;
  const bool few = rows * per_row <= table.decode_rows;
  const Form form = compute == Compute::kInt8     ? Form::kInt8
                    : compute == Compute::kStatic ? Form::kStatic
                    : few                         ? Form::kDigits
                                                  : Form::kFloats;
  const std::int64_t made = few ? std::int64_t{1} << log2_up(rows * per_row) : rows;
  activations.prepare(table, weights.shape, x, element, rows, made, form, input, threads);
  if (few) {
    decode(table, weights, activations.int8_rows(), rows, per_row, output, threads);
  } else {
    prefill(table, weights, activations, rows, form != Form::kFloats, output, threads);
  }
}

void dequantize_panels(const Panels& weights, float* out, int threads) {
  const LinearKernels& table = kernels();
  const PanelShape& shape = weights.shape;
  const std::int64_t part = part_segments(shape, kFloatCols);
  parallel_for(shape.panels(), threads, [&](std::int64_t panel) {
    static thread_local Scratch memory;
    const std::int64_t rows = std::min(kPanel, shape.rows - panel * kPanel);
    auto* tile = memory.get<float>(shape.padded_cols() * kPanel);
    for (std::int64_t first = 0; first < shape.segments(); first += part) {
      table.unpack_float[shape.bits](weights, panel, first, std::min(part, shape.segments() - first),
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
