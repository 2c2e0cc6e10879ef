// Atomic operations, as CUDA calls them. Threads run one at a time, so that each is done at once; they are checked as
// accesses, and count as writes.
#pragma once

#include <cstring>

#include "access.h"
#include "half.h"

namespace eqnet::emulator {

// Replaces a value by what `change` makes of it. Returns the value before.
template <typename T, typename Change>
T change_atomically(T* at, Change change, const Site& site) {
  T before{};
  unsigned char* bytes = update(at, sizeof(T), alignof(T), site);
  if (bytes == nullptr) return before;
  std::memcpy(&before, bytes, sizeof(T));
  const T after = change(before);
  std::memcpy(bytes, &after, sizeof(T));
  return before;
}

}  // namespace eqnet::emulator

// Defines CUDA's atomic operation `name` on one type, which makes `after` of `before` and `value`.
#define EQNET_ATOMIC(name, Type, after)                                                                   \
  inline Type name(Type* at, Type value, eqnet::emulator::Site site = eqnet::emulator::Site::here()) {    \
    return eqnet::emulator::change_atomically(                                                            \
        at, [=]([[maybe_unused]] Type before) -> Type { return after; }, site);                           \
  }
#define EQNET_ATOMIC_INTEGERS(name, after)       \
  EQNET_ATOMIC(name, int, after)                 \
  EQNET_ATOMIC(name, unsigned, after)            \
  EQNET_ATOMIC(name, unsigned long long, after)

EQNET_ATOMIC_INTEGERS(atomicMin, value < before ? value : before)
EQNET_ATOMIC_INTEGERS(atomicMax, value > before ? value : before)
EQNET_ATOMIC_INTEGERS(atomicAnd, before & value)
EQNET_ATOMIC_INTEGERS(atomicOr, before | value)
EQNET_ATOMIC_INTEGERS(atomicXor, before ^ value)
EQNET_ATOMIC_INTEGERS(atomicExch, value)
EQNET_ATOMIC(atomicExch, float, value)
EQNET_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(before) + static_cast<unsigned>(value)))
EQNET_ATOMIC(atomicAdd, unsigned, before + value)
EQNET_ATOMIC(atomicAdd, unsigned long long, before + value)
EQNET_ATOMIC(atomicAdd, float, before + value)
EQNET_ATOMIC(atomicAdd, half, __hadd(before, value))
EQNET_ATOMIC(atomicAdd, half2, __hadd2(before, value))
EQNET_ATOMIC(atomicAdd, __nv_bfloat16, __hadd(before, value))
EQNET_ATOMIC(atomicAdd, __nv_bfloat162, __hadd2(before, value))
// Counts from 0 to `value`, and then from 0 again.
EQNET_ATOMIC(atomicInc, unsigned, before >= value ? 0 : before + 1)

// Writes `value` where `expected` was.
#define EQNET_ATOMIC_CAS(Type)                                                                            \
  inline Type atomicCAS(Type* at, Type expected, Type value,                                              \
                        eqnet::emulator::Site site = eqnet::emulator::Site::here()) {                     \
    return eqnet::emulator::change_atomically(                                                            \
        at, [=](Type before) -> Type { return before == expected ? value : before; }, site);              \
  }

EQNET_ATOMIC_CAS(int)
EQNET_ATOMIC_CAS(unsigned)
EQNET_ATOMIC_CAS(unsigned short)
EQNET_ATOMIC_CAS(unsigned long long)

#undef EQNET_ATOMIC
#undef EQNET_ATOMIC_INTEGERS
#undef EQNET_ATOMIC_CAS
