#include "gemm.h"

template void eqnet::cuda::gemm(const Product<__nv_bfloat16>&, int, const Device&, Stream);
