// What a processor can do at most, in loops that do nothing else.
#pragma once

#include <cstddef>
#include <cstdint>

namespace eqnet {

// Reads `bytes` of memory, rounded down to whole lines of 64 bytes, `repeats` times over. `memory` is aligned to 64
// bytes; it is read in stretches that the threads share.
void read_memory(const void* memory, std::size_t bytes, int repeats, int threads);

// Sums of products in registers, `repeats` rounds on each thread, with the instructions of isa().
//
// Returns how many operations were made, a product and its addition being two.
double multiply_int8(std::int64_t repeats, int threads);
double multiply_float(std::int64_t repeats, int threads);

}  // namespace eqnet
