// What a kernel needs to be compiled for the emulator. Kernels include it through cuda/device.h.
#pragma once

#include "access.h"
#include "atomics.h"
#include "barriers.h"
#include "bits.h"
#include "half.h"
#include "matrix.h"
#include "vectors.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define UNROLL
#define ROLLED

// An array in shared memory, one for each place that declares one.
#define SHARED(type, name, count)  \
  static const char name##_key = 0; \
  type* const name =               \
      static_cast<type*>(::eqnet::emulator::shared_array(&name##_key, #name, sizeof(type) * (count)))

// The shared memory of which the launch gives the size.
#define DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::eqnet::emulator::dynamic_shared())

namespace eqnet::cuda {

using emulator::ldmatrix;
using emulator::ldmatrix_transposed;
using emulator::load;
using emulator::lop3;
using emulator::mma;
using emulator::reinterpret;
using emulator::store;

template <typename T>
T load_once(const T* from, emulator::Site site = emulator::Site::here()) {
  return emulator::load(from, site);
}

template <int kBytes>
void cp_async(void* to, const void* from, int valid = kBytes, emulator::Site site = emulator::Site::here()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  emulator::begin_copy(to, from, kBytes, static_cast<std::size_t>(valid), site);
}
inline void cp_async_commit() { emulator::commit_copies(); }
template <int kGroupsLeft>
void cp_async_wait() {
  emulator::wait_for_copies(kGroupsLeft);
}

}  // namespace eqnet::cuda
