// From arguments to launches.

#include "arguments.h"
#include "dequantize.h"
#include "embedding.h"
#include "products.h"
#include "spread.h"

namespace eqnet::cuda {

// Compiled by themselves (dequantize.cpp).
#define EQNET_DEQUANTIZE(type)                                              \
  extern template void dequantize(const eqnet_cuda_weight&, type*, Stream); \
  extern template void dequantize_glm(const void*, const void*, int, std::int64_t, std::int64_t, int, type*, Stream)
EQNET_DEQUANTIZE(half);
EQNET_DEQUANTIZE(__nv_bfloat16);
EQNET_DEQUANTIZE(float);

namespace {

template <typename T>
void run_linear(const LinearArguments& arguments, const Device& device, Stream stream) {
  const eqnet_cuda_weight& weight = *arguments.weight;
  const LinearNeeds needs = linear_needs(&weight, arguments.element, arguments.tokens, device);
  const void* x = arguments.x;
  auto* memory = static_cast<unsigned char*>(arguments.memory);
  if (needs.spread_bytes > 0) {
    spread(x, shape_of(weight), arguments.tokens, memory, stream);
    x = memory;
    memory += needs.spread_bytes;
  }
  const Product<T> product{Tiles::of(weight),
                           static_cast<const T*>(x),
                           arguments.bias,
                           static_cast<T*>(arguments.y),
                           static_cast<int>(arguments.tokens),
                           arguments.activation,
                           reinterpret_cast<float*>(memory),
                           arguments.counters};
  multiply(product, weight.bits, device, stream);
}

// Calls `with` with a null pointer of the type.
template <typename With>
void for_element(int element, With with) {
  if (element == EQNET_FLOAT16) return with(static_cast<half*>(nullptr));
  if (element == EQNET_BFLOAT16) return with(static_cast<__nv_bfloat16*>(nullptr));
  return with(static_cast<float*>(nullptr));
}

}  // namespace

void run(const LinearArguments& arguments, const Device& device, Stream stream) {
  if (!check(arguments, device)) return;
  const auto run_as = arguments.element == EQNET_FLOAT16 ? run_linear<half> : run_linear<__nv_bfloat16>;
  run_as(arguments, device, stream);
}

void run(const DequantizeArguments& arguments, Stream stream) {
  if (!check(arguments)) return;
  for_element(arguments.element, [&](auto* type) {
    dequantize(*arguments.weight, static_cast<decltype(type)>(arguments.out), stream);
  });
}

void run(const GlmArguments& arguments, Stream stream) {
  if (!check(arguments)) return;
  for_element(arguments.element, [&](auto* type) {
    dequantize_glm(arguments.codes, arguments.scale, arguments.scale_type, arguments.rows, arguments.cols,
                   arguments.bits, static_cast<decltype(type)>(arguments.out), stream);
  });
}

void run(const EmbeddingArguments& arguments, Stream stream) {
  if (!check(arguments)) return;
  embedding(*arguments.table, arguments.indices, arguments.count, arguments.out, stream);
}

}  // namespace eqnet::cuda
