#include "addresses.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

namespace eqnet::emulator {

std::uintptr_t address_space() {
  static const std::uintptr_t first = [] {
    void* mapped = mmap(nullptr, kSharedSpace + kGlobalSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
    if (mapped == MAP_FAILED) {
      std::perror("emulator: no addresses");
      std::abort();
    }
    return address_of(mapped);
  }();
  return first;
}

}  // namespace eqnet::emulator
