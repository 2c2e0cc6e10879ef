// From exceptions to the errors of a library in C.
#pragma once

#include <cstdio>
#include <stdexcept>

#include "eqnet/cuda.h"

namespace eqnet::cuda {

// An argument that cannot be.
struct Invalid : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Of the last error of this thread. An array, so that to tell of a lack of memory takes none.
inline char (&message())[4096] {
  static thread_local char words[4096] = "";
  return words;
}

// Calls `call`, and says what became of it. Nothing is thrown from here.
template <typename Call>
int guarded(const char* function, Call call) noexcept {
  try {
    call();
    return EQNET_CUDA_OK;
  } catch (const std::invalid_argument& error) {
    std::snprintf(message(), sizeof(message()), "%s: %s", function, error.what());
    return EQNET_CUDA_INVALID;
  } catch (const std::exception& error) {
    std::snprintf(message(), sizeof(message()), "%s: %s", function, error.what());
    return EQNET_CUDA_FAILED;
  } catch (...) {
    std::snprintf(message(), sizeof(message()), "%s: an unknown error", function);
    return EQNET_CUDA_FAILED;
  }
}

}  // namespace eqnet::cuda
