#include "gemv.h"

template void eqnet::cuda::gemv(const Product<half>&, int, const Device&, Stream);
