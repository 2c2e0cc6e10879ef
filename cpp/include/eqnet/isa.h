// Which instruction set the kernels use.
#pragma once

namespace eqnet {

// In ascending order on each architecture: a kernel table is searched for the best entry that is not above isa().
enum class Isa { kPortable, kNeon, kAvx2, kAvx512Vnni };

// The best instruction set of this processor (kNeon with dot products, kAvx2 with FMA and F16C, kAvx512Vnni with F, BW,
// VL, VBMI and VNNI). The environment variable EQNET_CPU = portable | neon | avx2 | avx512 restricts it, so that every
// path can be tested on one machine. It is read at the first call.
//
// Throws std::invalid_argument if EQNET_CPU is none of these or the processor lacks it.
Isa isa();

const char* isa_name(Isa value);  // as in EQNET_CPU

}  // namespace eqnet
