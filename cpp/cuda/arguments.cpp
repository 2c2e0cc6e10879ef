#include "arguments.h"

#include <string>

#include "errors.h"
#include "products.h"

namespace eqnet::cuda {
namespace {

// Of rows, padded columns and tokens, which are ints to kernels; so are the columns of threads past the last one.
constexpr std::int64_t kMost = INT32_MAX - 2047;
constexpr std::uintptr_t kAlignment = 16;
constexpr int kFirstWithBfloat16 = 80;

void expect_range(const char* name, std::int64_t value, std::int64_t first, std::int64_t last) {
  if (value >= first && value <= last) return;
  throw Invalid(std::string(name) + " is " + std::to_string(value) + "; expected " + std::to_string(first) + " to " +
                std::to_string(last));
}

void expect_type(const char* name, int value, bool with_float32) {
  if (value == EQNET_FLOAT16 || value == EQNET_BFLOAT16 || (with_float32 && value == EQNET_FLOAT32)) return;
  throw Invalid(std::string(name) + " is " + std::to_string(value) + "; expected 0 (float16)" +
                (with_float32 ? ", 1 (bfloat16) or 2 (float32)" : " or 1 (bfloat16)"));
}

void expect_pointer(const char* name, const void* pointer, bool optional = false) {
  if (pointer == nullptr && !optional) throw Invalid(std::string(name) + " is null");
  const auto past = reinterpret_cast<std::uintptr_t>(pointer) % kAlignment;
  if (past != 0) {
    throw Invalid(std::string(name) + " lies " + std::to_string(past) + " bytes past a multiple of " +
                  std::to_string(kAlignment) + "; expected a multiple");
  }
}

// What of a weight can be told without its memory.
void expect_shape(const eqnet_cuda_weight* weight) {
  if (weight == nullptr) throw Invalid("weight is null");
  expect_range("weight: rows", weight->rows, 0, kMost);
  expect_range("weight: cols", weight->cols, 1, kMost);
  expect_range("weight: group_size", weight->group_size, 1, weight->cols);
  expect_range("weight: bits", weight->bits, 2, 8);
  expect_type("weight: scale_type", weight->scale_type, true);
  const TileShape shape = shape_of(*weight);
  if (shape.padded_cols() > kMost) {
    throw Invalid("weight: " + std::to_string(weight->cols) + " cols in groups of " +
                  std::to_string(weight->group_size) + " take " + std::to_string(shape.padded_cols()) +
                  " with padding; expected at most " + std::to_string(kMost));
  }
}

void expect_memory(const eqnet_cuda_weight& weight) {
  expect_pointer("weight: codes", weight.codes);
  expect_pointer("weight: scales", weight.scales);
  expect_pointer("weight: zeros", weight.zeros, true);
}

}  // namespace

LinearNeeds linear_needs(const eqnet_cuda_weight* weight, int element, std::int64_t tokens, const Device& device) {
  expect_shape(weight);
  expect_type("element", element, false);
  expect_range("tokens", tokens, 0, kMost);
  if (element == EQNET_BFLOAT16 && device.capability < kFirstWithBfloat16) {
    throw Invalid("element is 1 (bfloat16), which takes a GPU of compute capability 8.0; this one has " +
                  std::to_string(device.capability / 10) + "." + std::to_string(device.capability % 10) +
                  ". Use float16, or multiply by the dequantized weight");
  }
  if (tokens == 0 || weight->rows == 0) return {0, 0, 0};
  const TileShape shape = shape_of(*weight);
  const std::int64_t spread_bytes = shape.cols == shape.padded_cols() ? 0 : tokens * shape.padded_cols() * 2;
  const Needs needs = product_needs(shape, tokens, device);
  return {spread_bytes, spread_bytes + needs.bytes, needs.counters};
}

bool check(const LinearArguments& arguments, const Device& device) {
  const LinearNeeds needs = linear_needs(arguments.weight, arguments.element, arguments.tokens, device);
  expect_range("activation", arguments.activation, EQNET_NO_ACTIVATION, EQNET_GELU_TANH);
  if (arguments.tokens == 0 || arguments.weight->rows == 0) return false;
  expect_memory(*arguments.weight);
  expect_pointer("x", arguments.x);
  expect_pointer("bias", arguments.bias, true);
  expect_pointer("y", arguments.y);
  expect_pointer("memory", arguments.memory, needs.bytes == 0);
  expect_pointer("counters", arguments.counters, needs.counters == 0);
  return true;
}

bool check(const DequantizeArguments& arguments) {
  expect_shape(arguments.weight);
  expect_type("element", arguments.element, true);
  if (arguments.weight->rows == 0) return false;
  expect_memory(*arguments.weight);
  expect_pointer("out", arguments.out);
  return true;
}

bool check(const GlmArguments& arguments) {
  expect_type("scale_type", arguments.scale_type, true);
  expect_range("rows", arguments.rows, 0, kMost);
  expect_range("cols", arguments.cols, 0, kMost);
  if (arguments.bits != 4 && arguments.bits != 8) {
    throw Invalid("bits is " + std::to_string(arguments.bits) + "; expected 4 or 8");
  }
  if (arguments.bits == 4 && arguments.cols % 2 != 0) {
    throw Invalid("cols is " + std::to_string(arguments.cols) +
                  "; expected an even number, as two codes of 4 bits are a byte");
  }
  expect_type("element", arguments.element, true);
  if (arguments.rows == 0 || arguments.cols == 0) return false;
  expect_pointer("codes", arguments.codes);
  expect_pointer("scale", arguments.scale);
  expect_pointer("out", arguments.out);
  return true;
}

bool check(const EmbeddingArguments& arguments) {
  const eqnet_cuda_table* table = arguments.table;
  if (table == nullptr) throw Invalid("table is null");
  expect_range("table: rows", table->rows, 0, kMost);
  expect_range("table: cols", table->cols, 0, kMost);
  if (table->cols > 0) expect_range("table: group_size", table->group_size, 1, table->cols);
  expect_range("table: bits", table->bits, 2, 8);
  expect_type("table: scale_type", table->scale_type, true);
  expect_range("count", arguments.count, 0, kMost);
  if (arguments.count == 0 || table->cols == 0) return false;
  expect_pointer("indices", arguments.indices);
  expect_pointer("out", arguments.out);
  if (table->rows == 0) return true;  // every index is none of a row
  expect_pointer("table: codes", table->codes);
  expect_pointer("table: scale", table->scale);
  expect_pointer("table: zero_point", table->zero_point, true);
  return true;
}

}  // namespace eqnet::cuda
