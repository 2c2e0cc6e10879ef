#include "gemm.h"

template void eqnet::cuda::gemm(const Product<half>&, int, const Device&, Stream);
