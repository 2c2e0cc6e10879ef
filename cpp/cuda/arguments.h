// What the library is called with, and whether it can be. The messages hold the values.
#pragma once

#include <cstdint>

#include "launch.h"
#include "tiles.h"

namespace eqnet::cuda {

struct LinearArguments {
  const eqnet_cuda_weight* weight;
  const void* x;
  int element;
  std::int64_t tokens;
  const float* bias;
  int activation;
  void* y;
  void* memory;
  std::uint32_t* counters;
};

struct DequantizeArguments {
  const eqnet_cuda_weight* weight;
  void* out;
  int element;
};

struct GlmArguments {
  const void* codes;
  const void* scale;
  int scale_type;
  std::int64_t rows;
  std::int64_t cols;
  int bits;
  void* out;
  int element;
};

struct EmbeddingArguments {
  const eqnet_cuda_table* table;
  const std::int64_t* indices;
  std::int64_t count;
  float* out;
};

// Memory that a linear layer needs beside its operands.
struct LinearNeeds {
  std::int64_t spread_bytes;  // of activations whose columns are padded, a multiple of 128; first in the memory
  std::int64_t bytes;         // with those
  std::int64_t counters;
};

// Each throws Invalid, and returns whether there is anything to do. Where there is not, pointers may be null.
bool check(const LinearArguments& arguments, const Device& device);
bool check(const DequantizeArguments& arguments);
bool check(const GlmArguments& arguments);
bool check(const EmbeddingArguments& arguments);

// Throws Invalid. weight: its pointers are not looked at.
LinearNeeds linear_needs(const eqnet_cuda_weight* weight, int element, std::int64_t tokens, const Device& device);

// Check, and launch. They throw what check() throws, and Failed.
void run(const LinearArguments& arguments, const Device& device, Stream stream);
void run(const DequantizeArguments& arguments, Stream stream);
void run(const GlmArguments& arguments, Stream stream);
void run(const EmbeddingArguments& arguments, Stream stream);

}  // namespace eqnet::cuda
