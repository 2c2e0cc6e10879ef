// Addresses as kernels see them. Nothing is mapped at them, so that a kernel that follows a pointer itself, past the
// checks of load() and store(), crashes at that line.
#pragma once

#include <cstddef>
#include <cstdint>

namespace eqnet::emulator {

constexpr std::size_t kSharedSpace = std::size_t{1} << 20;
constexpr std::size_t kGlobalSpace = std::size_t{1} << 34;

// The first address of shared memory; that of global memory is kSharedSpace further on.
std::uintptr_t address_space();

inline std::uintptr_t address_of(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

inline bool is_shared(const void* pointer) { return address_of(pointer) - address_space() < kSharedSpace; }

}  // namespace eqnet::emulator
