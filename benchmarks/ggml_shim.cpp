// Products with one of ggml's quantized matrices, for ctypes. Link with -lggml -lggml-base -lggml-cpu.
// What is made lives as long as the process.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

namespace {

struct ContextEnd {
  void operator()(ggml_context* context) const { ggml_free(context); }
};
struct BufferEnd {
  void operator()(ggml_backend_buffer* buffer) const { ggml_backend_buffer_free(buffer); }
};
struct BackendEnd {
  void operator()(ggml_backend* backend) const { ggml_backend_free(backend); }
};

// Tensors without data, and the buffer where their data will be.
struct Tensors {
  std::unique_ptr<ggml_context, ContextEnd> context;
  std::unique_ptr<ggml_backend_buffer, BufferEnd> buffer;

  explicit Tensors(std::size_t count)
      : context(ggml_init({count * ggml_tensor_overhead() + ggml_graph_overhead_custom(count, false),
                           nullptr, true})) {}

  bool allocate(ggml_backend_buffer_type_t type) {
    buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), type));
    return buffer != nullptr;
  }
};

struct Weights {
  std::unique_ptr<ggml_backend, BackendEnd> backend;
  Tensors tensors;
  std::vector<ggml_tensor*> copies;
};

struct Product {
  Weights* weights;
  Tensors tensors;
  ggml_cgraph* graph;
};

// The memory in which ggml keeps weights rearranged for this processor; null if it has none.
ggml_backend_buffer_type_t repacking(ggml_backend_t backend) {
  const ggml_backend_dev_t device = ggml_backend_get_device(backend);
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
  for (auto type = extra ? extra(device) : nullptr; type != nullptr && *type != nullptr; ++type)
    if (std::string(ggml_backend_buft_name(*type)).find("REPACK") != std::string::npos) return *type;
  return nullptr;
}

ggml_type type_named(const std::string& name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const char* other = ggml_type_name(static_cast<ggml_type>(i));
    if (other != nullptr && name == other) return static_cast<ggml_type>(i);
  }
  return GGML_TYPE_COUNT;
}

}  // namespace

extern "C" {

// Copies of `weight` [rows, cols] in one type; null if this ggml cannot hold it so.
Weights* ggml_shim_weights(const char* type_name, bool repack, std::int64_t rows, std::int64_t cols, int copies,
                           int threads, const float* weight) {
  const ggml_type type = type_named(type_name);
  if (type == GGML_TYPE_COUNT || cols % ggml_blck_size(type) != 0) return nullptr;
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  auto result = std::make_unique<Weights>(Weights{{}, Tensors(copies), {}});
  result->backend.reset(ggml_backend_cpu_init());
  ggml_backend_cpu_set_n_threads(result->backend.get(), threads);
  for (int i = 0; i < copies; ++i)
    result->copies.push_back(ggml_new_tensor_2d(result->tensors.context.get(), type, cols, rows));
  const auto memory = repack ? repacking(result->backend.get()) : ggml_backend_cpu_buffer_type();
  if (memory == nullptr || !result->tensors.allocate(memory)) return nullptr;
  if (repack && result->copies[0]->extra == nullptr) return nullptr;  // kept as it is: this type is not rearranged
  std::vector<char> codes(ggml_row_size(type, cols) * rows);
  ggml_quantize_chunk(type, weight, codes.data(), 0, rows, cols, nullptr);
  for (ggml_tensor* copy : result->copies) ggml_backend_tensor_set(copy, codes.data(), 0, codes.size());
  return result.release();
}

std::int64_t ggml_shim_bytes(const Weights* weights) { return ggml_nbytes(weights->copies[0]); }

// x [m, cols] times a copy, `count` times over: the first `distinct` copies in turn.
Product* ggml_shim_product(Weights* weights, std::int64_t m, int count, int distinct, const float* x) {
  auto result = std::make_unique<Product>(Product{weights, Tensors(2 * count + 2), nullptr});
  ggml_context* context = result->tensors.context.get();
  ggml_tensor* input = ggml_new_tensor_2d(context, GGML_TYPE_F32, weights->copies[0]->ne[0], m);
  result->graph = ggml_new_graph_custom(context, 2 * count + 2, false);
  for (int i = 0; i < count; ++i)
    ggml_build_forward_expand(result->graph, ggml_mul_mat(context, weights->copies[i % distinct], input));
  if (!result->tensors.allocate(ggml_backend_cpu_buffer_type())) return nullptr;
  ggml_backend_tensor_set(input, x, 0, ggml_nbytes(input));
  return result.release();
}

void ggml_shim_compute(Product* product) {
  ggml_backend_graph_compute(product->weights->backend.get(), product->graph);
}

}  // extern "C"
