// Calls one function of a library that TVM's runtime would load, where there is no such runtime:
//     call_library LIBRARY FUNCTION INPUT SIZES OUTPUT SIZES
// SIZES is like 2x3x8x8; the files hold float32.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

// What libraries ask of the runtime. There are no functions to be found, and errors are printed.
void TVMFFIErrorSetRaisedFromCStr(const char* kind, const char* message) { printf("%s: %s\n", kind, message); }
void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  printf("%s: ", kind);
  for (int32_t i = 0; i < count; ++i) printf("%s", parts[i]);
  printf("\n");
}
int TVMFFIFunctionGetGlobal(const TVMFFIByteArray* name, TVMFFIObjectHandle* out) {
  (void)name;
  *out = NULL;
  return 0;
}
int TVMFFIFunctionCall(TVMFFIObjectHandle function, TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  (void)function, (void)args, (void)count, (void)result;
  return -1;
}

typedef struct {
  DLTensor tensor;
  int64_t sizes[8];
  size_t count;
} Array;

static Array array(char* sizes) {
  Array a = {0};
  a.count = 1;
  for (char* size = strtok(sizes, "x"); size != NULL; size = strtok(NULL, "x")) {
    a.sizes[a.tensor.ndim++] = atoll(size);
    a.count *= (size_t)atoll(size);
  }
  a.tensor.data = malloc(a.count * sizeof(float) + 1);
  a.tensor.device.device_type = kDLCPU;
  a.tensor.dtype.code = kDLFloat;
  a.tensor.dtype.bits = 32;
  a.tensor.dtype.lanes = 1;
  return a;
}

static TVMFFIAny tensor(Array* a) {
  TVMFFIAny any = {0};
  a->tensor.shape = a->sizes;
  any.type_index = kTVMFFIDLTensorPtr;
  any.v_ptr = &a->tensor;
  return any;
}

int main(int argc, char** argv) {
  if (argc < 7) return 2;
  void* library = dlopen(argv[1], RTLD_NOW);
  if (library == NULL) return printf("%s\n", dlerror()), 1;
  TVMFFISafeCallType function = (TVMFFISafeCallType)dlsym(library, argv[2]);
  if (function == NULL) return printf("no %s\n", argv[2]), 1;
  Array x = array(argv[4]), y = array(argv[6]);
  FILE* file = fopen(argv[3], "rb");
  if (file == NULL || fread(x.tensor.data, sizeof(float), x.count, file) != x.count) return 2;
  fclose(file);
  TVMFFIAny arguments[] = {tensor(&x), tensor(&y)}, result = {0};
  if (function(NULL, arguments, 2, &result) != 0) return 1;
  file = fopen(argv[5], "wb");
  if (file == NULL || fwrite(y.tensor.data, sizeof(float), y.count, file) != y.count) return 2;
  return fclose(file);
}
