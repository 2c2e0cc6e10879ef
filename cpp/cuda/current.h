// The device of the calling thread.
#pragma once

#include "launch.h"

#ifdef __CUDACC__
#include <map>
#include <mutex>
#endif

namespace eqnet::cuda {

#ifdef __CUDACC__

// It is asked once what it is.
inline Device current_device() {
  static std::mutex asking;
  static std::map<int, Device> known;
  int number;
  check(cudaGetDevice(&number), "cudaGetDevice");
  const std::lock_guard<std::mutex> lock(asking);
  const auto found = known.find(number);
  if (found != known.end()) return found->second;
  const auto ask = [&](cudaDeviceAttr attribute) {
    int value;
    check(cudaDeviceGetAttribute(&value, attribute, number), "cudaDeviceGetAttribute");
    return value;
  };
  const Device device{ask(cudaDevAttrMultiProcessorCount),
                      ask(cudaDevAttrComputeCapabilityMajor) * 10 + ask(cudaDevAttrComputeCapabilityMinor),
                      ask(cudaDevAttrMaxSharedMemoryPerBlockOptin), ask(cudaDevAttrMaxSharedMemoryPerMultiprocessor)};
  known.emplace(number, device);
  return device;
}

#else

// What tests say that it is; an A100 at first.
inline Device& emulated_device() {
  static Device device{108, 80, 163 * 1024, 164 * 1024};
  return device;
}
inline Device current_device() { return emulated_device(); }

#endif

}  // namespace eqnet::cuda
