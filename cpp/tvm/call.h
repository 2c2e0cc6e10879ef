// What functions that TVM calls have in common: arguments, errors, threads. Needs only the C headers of tvm-ffi.
#pragma once

#include <tvm/ffi/c_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

// The serialized model that this library has been linked with.
extern "C" const std::uint8_t eqnet_model[];
extern "C" const std::uint8_t eqnet_model_end[];

#define EQNET_TVM_FUNCTION(name) extern "C" __attribute__((visibility("default"))) int __tvm_ffi_##name

namespace eqnet::tvm {

inline std::size_t model_bytes() { return static_cast<std::size_t>(eqnet_model_end - eqnet_model); }

struct Arguments {
  const TVMFFIAny* values;
  std::int32_t count;

  const DLTensor& tensor(std::int32_t i) const {
    const TVMFFIAny& value = at(i);
    if (value.type_index == kTVMFFIDLTensorPtr) return *static_cast<const DLTensor*>(value.v_ptr);
    if (value.type_index != kTVMFFITensor) fail(i, "a tensor");
    return *reinterpret_cast<const DLTensor*>(reinterpret_cast<const char*>(value.v_obj) + sizeof(TVMFFIObject));
  }

  std::string_view text(std::int32_t i) const {
    const TVMFFIAny& value = at(i);
    if (value.type_index == kTVMFFIRawStr) return value.v_c_str;
    if (value.type_index == kTVMFFISmallStr) return {value.v_bytes, value.small_str_len};
    if (value.type_index != kTVMFFIStr) fail(i, "a string");
    const auto* bytes = reinterpret_cast<const TVMFFIByteArray*>(reinterpret_cast<const char*>(value.v_obj) +
                                                                 sizeof(TVMFFIObject));
    return {bytes->data, bytes->size};
  }

 private:
  const TVMFFIAny& at(std::int32_t i) const {
    if (i >= count) throw std::invalid_argument("argument " + std::to_string(i) + " is missing");
    return values[i];
  }
  [[noreturn]] static void fail(std::int32_t i, const char* expected) {
    throw std::invalid_argument("argument " + std::to_string(i) + " is not " + expected);
  }
};

// The elements of a dense tensor on the CPU.
inline void* elements(const DLTensor& tensor) {
  std::int64_t stride = 1;
  for (std::int32_t i = tensor.ndim; i-- > 0; stride *= tensor.shape[i]) {
    if (tensor.strides != nullptr && tensor.shape[i] > 1 && tensor.strides[i] != stride) {
      throw std::invalid_argument("a tensor that is not contiguous");
    }
  }
  if (tensor.device.device_type != kDLCPU) throw std::invalid_argument("a tensor that is not on the CPU");
  return static_cast<char*>(tensor.data) + tensor.byte_offset;
}

inline bool is_type(const DLTensor& tensor, DLDataTypeCode code, int bits) {
  return tensor.dtype.code == code && tensor.dtype.bits == bits && tensor.dtype.lanes == 1;
}

inline std::string shape_text(const DLTensor& tensor) {
  std::string text = "[";
  for (std::int32_t i = 0; i < tensor.ndim; ++i) text += (i > 0 ? ", " : "") + std::to_string(tensor.shape[i]);
  return text + "]";
}

// As many as TVM's own kernels use, whoever has set that.
inline int threads() {
  static const TVMFFIObjectHandle asked = [] {
    constexpr char kName[] = "runtime.NumThreads";
    const TVMFFIByteArray name{kName, sizeof(kName) - 1};
    TVMFFIObjectHandle found = nullptr;
    return TVMFFIFunctionGetGlobal(&name, &found) == 0 ? found : nullptr;
  }();
  TVMFFIAny count{};
  if (asked == nullptr || TVMFFIFunctionCall(asked, nullptr, 0, &count) != 0 || count.type_index != kTVMFFIInt) {
    return static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
  }
  return static_cast<int>(std::max<std::int64_t>(count.v_int64, 1));
}

// Calls body(arguments), and hands what it throws to TVM. Returns what TVM expects of a function.
template <class Body>
int call(const TVMFFIAny* values, std::int32_t count, TVMFFIAny* result, const Body& body) {
  result->type_index = kTVMFFINone;
  result->zero_padding = 0;
  result->v_int64 = 0;
  try {
    body(Arguments{values, count});
    return 0;
  } catch (const std::invalid_argument& error) {
    TVMFFIErrorSetRaisedFromCStr("ValueError", error.what());
  } catch (const std::exception& error) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", error.what());
  }
  return -1;
}

}  // namespace eqnet::tvm
