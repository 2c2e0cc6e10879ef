// How kernels are launched, on a GPU and on the emulator, by the same functions of the host.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include <vector>

#include "../emulator/launch.h"
#endif

namespace eqnet::cuda {

// What a launch is fitted to.
struct Device {
  int processors;            // multiprocessors
  int capability;            // 75, 80, ...
  int shared_bytes;          // that one block can have
  int processor_shared_bytes;  // of one multiprocessor
};

// What CUDA refused.
struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

#ifdef __CUDACC__

using Stream = cudaStream_t;

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw Failed(std::string(what) + ": " + cudaGetErrorString(error));
}

// Puts a kernel on the stream.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads, int dynamic_bytes, Stream stream,
            const Arguments&... arguments) {
  constexpr int kWithoutAsking = 48 * 1024;
  if (dynamic_bytes > kWithoutAsking) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, dynamic_bytes), name);
  }
  kernel<<<grid, static_cast<unsigned>(threads), static_cast<std::size_t>(dynamic_bytes), stream>>>(arguments...);
  check(cudaGetLastError(), name);
}

#else

// Keeps what the launches tell; in their order.
struct Recorder {
  std::vector<emulator::Launch> launches;
  std::vector<void (*)()> kernels;  // which function each was of
  std::vector<emulator::Report> reports;
  bool backwards = false;  // runs the last block first
};
using Stream = Recorder*;

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads, int dynamic_bytes, Stream stream,
            const Arguments&... arguments) {
  emulator::Launch how{name, grid, static_cast<unsigned>(threads), static_cast<std::size_t>(dynamic_bytes)};
  how.backwards = stream->backwards;
  stream->launches.push_back(how);
  stream->kernels.push_back(reinterpret_cast<void (*)()>(kernel));
  stream->reports.push_back(emulator::run(how, kernel, arguments...));
}

#endif

}  // namespace eqnet::cuda
