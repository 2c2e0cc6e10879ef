#include "kernels.inl.h"
#include "vector_avx2.h"

namespace eqnet {

extern const LinearKernels kLinearAvx2;
const LinearKernels kLinearAvx2 = kernel_table<Avx2>(Isa::kAvx2);

}  // namespace eqnet
