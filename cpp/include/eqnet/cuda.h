// What libeqnet_cuda exports: plain C, pointers to memory of the GPU, on the current device and a stream that is given.
//
// Every function returns 0, or an error, whose words eqnet_cuda_message gives. Nothing waits for the GPU, and nothing is
// allocated: calls can be captured in a graph.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EQNET_CUDA_VERSION 1

enum { EQNET_FLOAT16 = 0, EQNET_BFLOAT16 = 1, EQNET_FLOAT32 = 2 };  // types of elements

enum {  // what is applied to a product and its bias
  EQNET_NO_ACTIVATION = 0,
  EQNET_RELU = 1,
  EQNET_SILU = 2,
  EQNET_GELU = 3,       // by the error function
  EQNET_GELU_TANH = 4,  // its approximation
};

enum {
  EQNET_CUDA_OK = 0,
  EQNET_CUDA_INVALID = 1,  // an argument
  EQNET_CUDA_FAILED = 2,   // what CUDA says
};

// A weight in tiles (eqnet/tiles.h). An element is (u - zero) * scale with unsigned codes u.
typedef struct {
  int64_t rows;        // output channels
  int64_t cols;        // inputs of one output
  int64_t group_size;  // columns that share a scale, 1 to cols
  int32_t bits;        // 2 to 8
  int32_t scale_type;
  const void* codes;   // 16-byte aligned, as all memory that is given here
  const void* scales;  // [row tiles, groups, 64] of scale_type
  const void* zeros;   // uint8, the same shape, or null: 2^(bits - 1) everywhere (symmetric)
} eqnet_cuda_weight;

// A table as it is stored (eqnet/packed/planes.py).
typedef struct {
  int64_t rows;
  int64_t cols;
  int64_t group_size;
  int32_t bits;
  int32_t scale_type;
  int32_t scale_per_row;  // whether each row has its own, or all share one
  const void* codes;
  const void* scale;       // [rows or 1, groups]
  const void* zero_point;  // planes of as many, or null
} eqnet_cuda_table;

int32_t eqnet_cuda_version(void);
const char* eqnet_cuda_message(void);  // of the last error of this thread

// How much eqnet_cuda_linear needs beside its operands: bytes of memory, and uint32 counters. Counters are 0 before the
// first call, and are 0 again after each; calls that may run at the same time have their own.
int eqnet_cuda_linear_needs(const eqnet_cuda_weight* weight, int32_t element, int64_t tokens, int64_t* bytes,
                            int64_t* counters);

// y = activation(x W^T + bias). x: [tokens, cols], y: [tokens, rows] of `element`, float16 or bfloat16, sums in float32.
// bias: float32 [rows], or null.
int eqnet_cuda_linear(const eqnet_cuda_weight* weight, const void* x, int32_t element, int64_t tokens,
                      const float* bias, int32_t activation, void* y, void* memory, uint32_t* counters, void* stream);

// The dequantized weight, [rows, cols] of `element`, any of the three.
int eqnet_cuda_dequantize(const eqnet_cuda_weight* weight, void* out, int32_t element, void* stream);

// The same of a weight as GLM-130B stores it: int8 [rows, cols], or [rows, cols / 2] of two codes of 4 bits, the even
// column in the high half; scale: [rows] of scale_type.
int eqnet_cuda_dequantize_glm(const void* codes, const void* scale, int32_t scale_type, int64_t rows, int64_t cols,
                              int32_t bits, void* out, int32_t element, void* stream);

// Rows of a table, float32 [count, cols]; NaN for an index that is none of a row. indices: int64 [count].
int eqnet_cuda_embedding(const eqnet_cuda_table* table, const int64_t* indices, int64_t count, float* out,
                         void* stream);

#ifdef __cplusplus
}
#endif
