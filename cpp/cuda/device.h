// What kernels are written on. They compile with nvcc for a GPU, and with a C++ compiler for the emulator, which runs
// them in tests.
//
// Both give what CUDA C++ has by its own names (__syncthreads, __shfl_sync, __hfma2, atomicAdd, uint4, threadIdx), and:
//
//   SHARED(T, name, count);               an array in shared memory, aligned to 16 bytes
//   DYNAMIC_SHARED(T, name);              the shared memory that the launch gives; the same bytes wherever it stands
//   UNROLL                                before a loop that is to be unrolled
//   ROLLED                                before one that is not
//
// and in the namespace eqnet::cuda:
//
//   load(p), store(p, v)                  every access to global and to shared memory; no kernel follows a pointer
//   load_once(p)                          of global memory that nobody reads again: leaves the cache to others
//   cp_async<bytes>(shared, global, n)    begins to copy 4, 8 or 16 bytes, of which the first n are read and the rest
//   cp_async_commit()                     become zero; closes a group of such copies; waits for all groups but the
//   cp_async_wait<left>()                 last `left`, of this thread
//   ldmatrix(registers, row)              1, 2 or 4 matrices of 8x8 numbers of 16 bits, for a whole warp: one for each
//   ldmatrix_transposed(registers, row)   register; lane 8·m + r gives row r of matrix m, all others give any row
//   mma<T>(d, a, b)                       d += a · b for a whole warp, T half or __nv_bfloat16: m16n8k16 for four
//                                         registers of a, m16n8k8 for two
//   lop3<table>(a, b, c)                  any function of three bits, for 32 at a time; the table is made from
//                                         a = 0xf0, b = 0xcc, c = 0xaa
//   reinterpret<To>(from)                 the same bits as another type
//
// sm_75 has no cp.async, which is then a copy at once; no m16n8k16, which is then two m16n8k8; and no mma for bfloat16,
// which then traps.
#pragma once

#ifdef __CUDACC__
#include "instructions.h"
#else
#include "../emulator/cuda.h"
#endif
