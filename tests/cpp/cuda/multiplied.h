// One product on the emulator, held to what all of them have to keep to.
#pragma once

#include <vector>

#include "cases.h"
#include "cuda/product.h"

namespace cases {

template <typename T>
struct Multiplied {
  std::vector<T> y;  // [tokens, rows]
  std::vector<Report> reports;
  std::int64_t least_bytes;   // the weight, x and y, once
  std::int64_t plain_bytes;   // that warps asked for
  std::int64_t memory_bytes;  // beyond the cache
};

// x: [tokens, cols] with the columns where those of the tiles are.
template <typename T>
std::vector<T> padded(const std::vector<T>& x, const TileShape& shape, std::int64_t tokens) {
  const std::int64_t group_cols = shape.group_steps() * eqnet::kTileStep, padded_cols = shape.padded_cols();
  std::vector<T> all(static_cast<std::size_t>(tokens * padded_cols), T{0});
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t col = 0; col < shape.cols; ++col) {
      const std::int64_t at = col / shape.group_size * group_cols + col % shape.group_size;
      all[static_cast<std::size_t>(token * padded_cols + at)] = x[static_cast<std::size_t>(token * shape.cols + col)];
    }
  }
  return all;
}

// multiply(product, recorder) launches the product.
template <typename T, typename Multiply>
Multiplied<T> multiplied(const char* what, const Weight& weight, const std::vector<T>& x, std::int64_t tokens,
                         const std::vector<float>& bias, int activation, const eqnet::cuda::Needs& needs,
                         bool backwards, Multiply multiply) {
  const Buffer<const T> of_x("x", padded(x, weight.shape, tokens));
  const Buffer<const float> of_bias("bias", bias);
  const Buffer<T> y("y", static_cast<std::size_t>(tokens * weight.shape.rows));
  const Buffer<float> memory("memory", static_cast<std::size_t>(needs.bytes / 4));
  const Buffer<unsigned> counters("counters", std::vector<unsigned>(static_cast<std::size_t>(needs.counters)));
  eqnet::cuda::Recorder recorder;
  recorder.backwards = backwards;
  const std::int64_t weight_read = weight.read_bytes();
  multiply(eqnet::cuda::Product<T>{eqnet::cuda::Tiles::of(weight.given()), of_x.address(),
                                   bias.empty() ? nullptr : of_bias.address(), y.address(), static_cast<int>(tokens),
                                   activation, memory.address(), counters.address()},
           &recorder);
  expect_clean(what, recorder.reports);
  EXPECT(y.unwritten_bytes() == 0, "%s: %zu", what, y.unwritten_bytes());
  for (const unsigned counter : counters.values()) EXPECT(counter == 0, "%s: %u", what, counter);

  Multiplied<T> result{y.values(), recorder.reports, 0, 0, 0};
  result.least_bytes = weight.bytes() + static_cast<std::int64_t>(bias.size() * 4) +
                       tokens * (weight.shape.padded_cols() + weight.shape.rows) * 2;
  result.plain_bytes = weight.read_bytes() - weight_read + of_x.read_bytes() + of_bias.read_bytes() + y.write_bytes() +
                       memory.read_bytes() + memory.write_bytes();
  for (const Report& report : recorder.reports) {
    result.memory_bytes += report.memory_read_bytes + report.memory_written_bytes;
  }
  return result;
}

}  // namespace cases
