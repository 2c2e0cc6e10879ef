// Calls compiled TIR functions as TVM's runtime would, one after the other.
//
// FUNCTIONS, defined when this is compiled, lists them as F(name). The file given holds int64 numbers: how many tensors;
// for each its type code, bits, dimensions, extents, bytes, and its contents, padded to 8 bytes; how many calls; for each
// the function, how many arguments, and their tensors. The last tensor is written to standard output.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
  void* data;
  int32_t device_type, device_id, dimensions;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} Tensor;

typedef struct {
  int32_t type, unused;
  void* value;
} Any;

typedef struct {
  void* sync;
  int32_t tasks;
} Group;

enum { kTensorPointer = 7, kCpu = 1, kThreads = 3 };

typedef int Function(void* self, const Any* arguments, int32_t count, Any* result);
#define F(name) Function name;
FUNCTIONS
#undef F
#define F(name) name,
static Function* const functions[] = {FUNCTIONS};

static void* allocate(uint64_t bytes) { return aligned_alloc(64, (bytes + 127) / 64 * 64); }
static void* workspace(int type, int id, uint64_t bytes, int code, int bits) { return allocate(bytes); }
static int release(int type, int id, void* memory) {
  free(memory);
  return 0;
}
static int launch(int (*task)(int, Group*, void*), void* data, int tasks) {
  Group group = {NULL, kThreads};
  for (int i = 0; i < kThreads; ++i) {
    if (task(i, &group, data) != 0) return -1;
  }
  return 0;
}

// What the compiled code calls; weak, as it has those that it needs.
__attribute__((weak)) void* __TVMBackendAllocWorkspace;
__attribute__((weak)) void* __TVMBackendFreeWorkspace;
__attribute__((weak)) void* __TVMBackendParallelLaunch;

static int64_t number(FILE* file) {
  int64_t value;
  if (fread(&value, sizeof value, 1, file) != 1) exit(3);
  return value;
}

int main(int count, char** arguments) {
  __TVMBackendAllocWorkspace = workspace;
  __TVMBackendFreeWorkspace = release;
  __TVMBackendParallelLaunch = launch;
  FILE* file = fopen(arguments[1], "rb");
  if (count != 2 || file == NULL) return 4;
  const int64_t tensors = number(file);
  Tensor* tensor = calloc(tensors, sizeof *tensor);
  int64_t bytes = 0;
  for (int64_t t = 0; t < tensors; ++t) {
    tensor[t] = (Tensor){.device_type = kCpu, .code = number(file), .bits = number(file), .lanes = 1};
    tensor[t].dimensions = number(file);
    tensor[t].shape = calloc(tensor[t].dimensions, sizeof(int64_t));
    for (int d = 0; d < tensor[t].dimensions; ++d) tensor[t].shape[d] = number(file);
    bytes = number(file);
    tensor[t].data = allocate(bytes);
    if (fread(tensor[t].data, 1, (bytes + 7) / 8 * 8, file) != (bytes + 7) / 8 * 8) return 5;
  }
  for (int64_t calls = number(file); calls > 0; --calls) {
    const int64_t function = number(file), given = number(file);
    Any any[32] = {0}, result = {0};
    for (int64_t a = 0; a < given; ++a) any[a] = (Any){kTensorPointer, 0, &tensor[number(file)]};
    if (functions[function](NULL, any, given, &result) != 0) return 6;
  }
  return fwrite(tensor[tensors - 1].data, 1, bytes, stdout) == bytes ? 0 : 7;
}
