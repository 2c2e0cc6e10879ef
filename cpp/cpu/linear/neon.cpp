#include "kernels.inl.h"
#include "vector_neon.h"

namespace eqnet {

extern const LinearKernels kLinearNeon;
const LinearKernels kLinearNeon = kernel_table<Neon>(Isa::kNeon);

}  // namespace eqnet
