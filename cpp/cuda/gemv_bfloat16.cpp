#include "gemv.h"

template void eqnet::cuda::gemv(const Product<__nv_bfloat16>&, int, const Device&, Stream);
