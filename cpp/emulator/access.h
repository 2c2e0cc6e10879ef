// Memory as kernels reach it: every access is checked, counted, and then made.
#pragma once

#include <cstddef>

#include "block.h"
#include "report.h"

namespace eqnet::emulator {

// Reads into `to`; poison where the read is refused.
void read(const void* from, void* to, std::size_t bytes, std::size_t alignment, const Site& site);
// Writes, unless it is refused.
void write(void* to, const void* from, std::size_t bytes, std::size_t alignment, const Site& site);
// Where the bytes are that an atomic operation changes, or null if it is refused.
unsigned char* update(void* at, std::size_t bytes, std::size_t alignment, const Site& site);

// One row of a matrix that a warp loads for the lane that runs: 16 bytes of shared memory, or null if it is refused.
// A row that is not used must be one all the same, on some architectures.
const unsigned char* matrix_row(const Thread& thread, const void* from, bool used, const Site& site);

// The same of a thread's copies to shared memory.
void begin_copy(void* to, const void* from, std::size_t bytes, std::size_t valid, const Site& site);
void commit_copies();
void wait_for_copies(std::size_t groups_left);

// Where an array of a declaration is.
void* shared_array(const void* key, const char* name, std::size_t bytes);
void* dynamic_shared();

template <typename T>
T load(const T* from, Site site = Site::here()) {
  T value;
  read(from, &value, sizeof(T), alignof(T), site);
  return value;
}

template <typename T>
struct Same {
  using Type = T;
};

template <typename T>
void store(T* to, const typename Same<T>::Type& value, Site site = Site::here()) {
  write(to, &value, sizeof(T), alignof(T), site);
}

}  // namespace eqnet::emulator

template <typename T>
T __ldg(const T* from, eqnet::emulator::Site site = eqnet::emulator::Site::here()) {
  return eqnet::emulator::load(from, site);
}
