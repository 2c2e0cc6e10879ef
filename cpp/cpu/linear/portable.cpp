#include "kernels.inl.h"
#include "vector_portable.h"

namespace eqnet {

extern const LinearKernels kLinearPortable;
const LinearKernels kLinearPortable = kernel_table<Portable>(Isa::kPortable);

}  // namespace eqnet
