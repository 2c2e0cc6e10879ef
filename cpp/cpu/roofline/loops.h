// The loops of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "eqnet/isa.h"

namespace eqnet {

struct RooflineLoops {
  Isa isa;
  double int8_operations;   // of one round
  double float_operations;  // of one round
  // Each returns something that depends on all that it did, so that nothing can be left out.
  std::uint64_t (*read)(const void* lines, std::size_t count);  // lines of 64 bytes
  std::uint64_t (*multiply_int8)(std::int64_t rounds);
  std::uint64_t (*multiply_float)(std::int64_t rounds);
};

}  // namespace eqnet
