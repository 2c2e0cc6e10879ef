// What device.h promises, for nvcc: PTX where CUDA C++ has no name for it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <type_traits>

#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(type, name)                               \
  extern __shared__ __align__(128) unsigned char dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(dynamic_shared)

namespace eqnet::cuda {

template <typename T>
__device__ __forceinline__ T load(const T* from) {
  return *from;
}

template <typename T>
struct Same {
  using Type = T;
};

template <typename T>
__device__ __forceinline__ void store(T* to, const typename Same<T>::Type& value) {
  *to = value;
}

template <typename To, typename From>
__device__ __forceinline__ To reinterpret(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

template <typename T>
__device__ __forceinline__ T load_once(const T* from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  if constexpr (sizeof(T) == 4) {
    unsigned bits;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(bits) : "l"(from));
    return reinterpret<T>(bits);
  } else if constexpr (sizeof(T) == 8) {
    uint2 bits;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(bits.x), "=r"(bits.y) : "l"(from));
    return reinterpret<T>(bits);
  } else {
    uint4 bits;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
                 : "l"(from));
    return reinterpret<T>(bits);
  }
}

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

template <int kBytes>
__device__ __forceinline__ void cp_async(void* to, const void* from, int valid = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
#if __CUDA_ARCH__ >= 800
  // Those of 16 bytes leave the first cache out.
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(kBytes),
                 "r"(valid)
                 : "memory");
  }
#else
  using Vector = std::conditional_t<kBytes == 16, uint4, std::conditional_t<kBytes == 8, uint2, unsigned>>;
  *static_cast<Vector*>(to) = valid == kBytes ? *static_cast<const Vector*>(from) : Vector{};
  if (valid > 0 && valid < kBytes) {
    ROLLED
    for (int i = 0; i < valid; ++i) static_cast<unsigned char*>(to)[i] = static_cast<const unsigned char*>(from)[i];
  }
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kGroupsLeft>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

// clang-format off
#define EQNET_LDMATRIX(name, transposed)                                                                               \
  __device__ __forceinline__ void name(unsigned (&r)[1], const void* row) {                                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" transposed ".shared.b16 {%0}, [%1];"                                  \
                 : "=r"(r[0]) : "r"(shared_address(row)) : "memory");                                                  \
  }                                                                                                                    \
  __device__ __forceinline__ void name(unsigned (&r)[2], const void* row) {                                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" transposed ".shared.b16 {%0, %1}, [%2];"                              \
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");                                      \
  }                                                                                                                    \
  __device__ __forceinline__ void name(unsigned (&r)[4], const void* row) {                                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" transposed ".shared.b16 {%0, %1, %2, %3}, [%4];"                      \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");              \
  }
// clang-format on
EQNET_LDMATRIX(ldmatrix, "")
EQNET_LDMATRIX(ldmatrix_transposed, ".trans")
#undef EQNET_LDMATRIX

// clang-format off
#define EQNET_MMA8(type)                                                                                               \
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32." type "." type ".f32 "                                           \
               "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"                                                   \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b[0]))
#define EQNET_MMA16(type)                                                                                              \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                                          \
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                       \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
// clang-format on

template <typename T>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
  if constexpr (std::is_same_v<T, half>) {
    EQNET_MMA8("f16");
  } else {
#if __CUDA_ARCH__ >= 800
    EQNET_MMA8("bf16");
#else
    asm volatile("trap;");
#endif
  }
}

template <typename T>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, half>) {
    EQNET_MMA16("f16");
  } else {
    EQNET_MMA16("bf16");
  }
#else
  // Registers of the deeper product are those of two others: of columns 0 to 7 of a, and of 8 to 15.
  const unsigned first_a[2] = {a[0], a[1]}, first_b[1] = {b[0]};
  const unsigned second_a[2] = {a[2], a[3]}, second_b[1] = {b[1]};
  mma<T>(d, first_a, first_b);
  mma<T>(d, second_a, second_b);
#endif
}
#undef EQNET_MMA8
#undef EQNET_MMA16

template <int kTable>
__device__ __forceinline__ unsigned lop3(unsigned a, unsigned b, unsigned c) {
  static_assert(kTable >= 0 && kTable < 256);
  unsigned result;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return result;
}

}  // namespace eqnet::cuda
