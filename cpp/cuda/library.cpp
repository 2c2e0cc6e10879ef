// What libeqnet_cuda exports.

#include "eqnet/cuda.h"

#include "arguments.h"
#include "current.h"
#include "errors.h"

using namespace eqnet::cuda;

int32_t eqnet_cuda_version(void) { return EQNET_CUDA_VERSION; }

const char* eqnet_cuda_message(void) { return message(); }

int eqnet_cuda_linear_needs(const eqnet_cuda_weight* weight, int32_t element, int64_t tokens, int64_t* bytes,
                            int64_t* counters) {
  return guarded(__func__, [&] {
    if (bytes == nullptr || counters == nullptr) throw Invalid("bytes or counters is null");
    const LinearNeeds needs = linear_needs(weight, element, tokens, current_device());
    *bytes = needs.bytes;
    *counters = needs.counters;
  });
}

int eqnet_cuda_linear(const eqnet_cuda_weight* weight, const void* x, int32_t element, int64_t tokens,
                      const float* bias, int32_t activation, void* y, void* memory, uint32_t* counters, void* stream) {
  return guarded(__func__, [&] {
    run({weight, x, element, tokens, bias, activation, y, memory, counters}, current_device(),
        static_cast<Stream>(stream));
  });
}

int eqnet_cuda_dequantize(const eqnet_cuda_weight* weight, void* out, int32_t element, void* stream) {
  return guarded(__func__, [&] { run(DequantizeArguments{weight, out, element}, static_cast<Stream>(stream)); });
}

int eqnet_cuda_dequantize_glm(const void* codes, const void* scale, int32_t scale_type, int64_t rows, int64_t cols,
                              int32_t bits, void* out, int32_t element, void* stream) {
  return guarded(__func__, [&] {
    run(GlmArguments{codes, scale, scale_type, rows, cols, bits, out, element}, static_cast<Stream>(stream));
  });
}

int eqnet_cuda_embedding(const eqnet_cuda_table* table, const int64_t* indices, int64_t count, float* out,
                         void* stream) {
  return guarded(__func__,
                 [&] { run(EmbeddingArguments{table, indices, count, out}, static_cast<Stream>(stream)); });
}
