#include "kernels.inl.h"
#include "vector_avx512.h"

namespace eqnet {

extern const LinearKernels kLinearAvx512;
const LinearKernels kLinearAvx512 = kernel_table<Avx512>(Isa::kAvx512Vnni);

}  // namespace eqnet
