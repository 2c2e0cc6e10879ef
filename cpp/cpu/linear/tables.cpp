#include "kernels.h"

namespace eqnet {

extern const LinearKernels kLinearPortable;
#if defined(__x86_64__)
extern const LinearKernels kLinearAvx2;
extern const LinearKernels kLinearAvx512;
#elif defined(__aarch64__)
extern const LinearKernels kLinearNeon;
#endif

const LinearKernels* const kLinearKernels[] = {
#if defined(__x86_64__)
    &kLinearAvx512, &kLinearAvx2,
#elif defined(__aarch64__)
    &kLinearNeon,
#endif
    &kLinearPortable, nullptr,
};

}  // namespace eqnet
