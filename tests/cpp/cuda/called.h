// The library's linear layer on the emulator, held to what every call has to keep to.
#pragma once

#include <vector>

#include "cases.h"

namespace cases {

template <typename T>
struct Called {
  std::vector<T> y;                // [tokens, rows]
  eqnet::cuda::Recorder launched;  // by all calls
  std::int64_t bytes;              // of memory that the layer needs
};

// bias: [rows], or empty. All but the last call leave what the next one begins with.
template <typename T>
Called<T> linear(const Weight& weight, const std::vector<T>& x, std::int64_t tokens, const std::vector<float>& bias,
                 int activation, int calls = 1) {
  const eqnet_cuda_weight given = weight.given();
  const Buffer<const T> of_x("x", x);
  const Buffer<const float> of_bias("bias", bias);
  const Buffer<T> y("y", static_cast<std::size_t>(tokens * weight.shape.rows));
  std::int64_t bytes = -1, count = -1;
  EXPECT(eqnet_cuda_linear_needs(&given, kElement<T>, tokens, &bytes, &count) == EQNET_CUDA_OK, "%s",
         eqnet_cuda_message());
  const Buffer<unsigned char> memory("memory", static_cast<std::size_t>(bytes));
  const Buffer<std::uint32_t> counters("counters", std::vector<std::uint32_t>(static_cast<std::size_t>(count)));
  eqnet::cuda::Recorder recorder;
  for (int call = 0; call < calls; ++call) {
    EXPECT(eqnet_cuda_linear(&given, of_x.address(), kElement<T>, tokens, bias.empty() ? nullptr : of_bias.address(),
                             activation, y.address(), memory.address(), counters.address(),
                             &recorder) == EQNET_CUDA_OK,
           "%s", eqnet_cuda_message());
  }
  expect_clean("linear", recorder.reports);
  EXPECT(y.unwritten_bytes() == 0, "%zu", y.unwritten_bytes());
  for (const std::uint32_t counter : counters.values()) EXPECT(counter == 0, "%u", counter);
  return {y.values(), std::move(recorder), bytes};
}

// A bias whose elements differ.
inline std::vector<float> some_bias(std::int64_t rows) {
  std::vector<float> bias;
  for (std::int64_t row = 0; row < rows; ++row) bias.push_back(0.25f * static_cast<float>(row % 9) - 1.0f);
  return bias;
}

}  // namespace cases
