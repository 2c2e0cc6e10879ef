#include "eqnet/embedding.h"

#include <algorithm>
#include <cstring>

#include "eqnet/threads.h"
#include "multiversion.h"
#include "planes.h"
#include "scales.h"

namespace eqnet {
namespace {

constexpr std::int64_t kAtOnce = 512;         // columns
constexpr std::int64_t kTaskElements = 16384;  // below this many, another thread is not worth waking

int zero_at(const Table& table, std::int64_t index) {
  if (table.zero_point == nullptr) return 1 << (table.bits - 1);
  std::uint8_t codes[4];
  unpack_codes(table.zero_point, (table.scale_per_row ? table.rows : 1) * table.groups(), index, 1, table.bits, codes);
  return codes[0];
}

EQNET_MULTIVERSION void gather_row(const Table& table, std::int64_t row, float* out) {
  std::uint8_t codes[kAtOnce];
  std::int64_t unpacked = 0;  // the column of the first one
  for (std::int64_t column = 0; column < table.cols;) {
    if (column % kAtOnce == 0) {
      unpacked = column;
      unpack_codes(table.codes, table.rows * table.cols, row * table.cols + column,
                   std::min(kAtOnce, table.cols - column), table.bits, codes);
    }
    const std::int64_t group = column / table.group_size;
    const std::int64_t end = std::min({(group + 1) * table.group_size, unpacked + kAtOnce, table.cols});
    const std::int64_t index = (table.scale_per_row ? row * table.groups() : 0) + group;
    const auto zero = static_cast<float>(zero_at(table, index));
    const float scale = scale_at(table.scale, table.scale_type, index);
    for (; column < end; ++column) out[column] = (static_cast<float>(codes[column - unpacked]) - zero) * scale;
  }
}

}  // namespace

void gather_rows(const Table& table, const std::int64_t* indices, std::int64_t count, float* out, int threads) {
  const std::int64_t per_task = std::max<std::int64_t>(kTaskElements / std::max<std::int64_t>(table.cols, 1), 1);
  parallel_for((count + per_task - 1) / per_task, threads, [&](std::int64_t task) {
    for (std::int64_t i = task * per_task; i < std::min((task + 1) * per_task, count); ++i) {
      gather_row(table, indices[i], out + i * table.cols);
    }
  });
}

}  // namespace eqnet
