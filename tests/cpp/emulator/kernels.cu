// The emulator's kernels for a GPU.
#include "kernels.h"
