// half and bfloat16, and what CUDA computes with them. Nothing converts by itself: kernels say what they round.
#pragma once

#include "narrow.h"
#include "vectors.h"

namespace eqnet::emulator {

template <typename T>
struct alignas(4) NarrowPair {
  T x, y;
};

template <typename T>
double wide(T x) {
  return static_cast<double>(widen(x));
}

// One operation on both numbers of pairs.
template <typename T, typename Operation, typename... Others>
NarrowPair<T> each(Operation operation, NarrowPair<T> first, Others... others) {
  return {operation(first.x, others.x...), operation(first.y, others.y...)};
}

template <int E, int F>
bool is_nan(Narrow<E, F> x) {
  return widen(x) != widen(x);
}

}  // namespace eqnet::emulator

using __half = eqnet::emulator::Half;
using half = __half;
using __half2 = eqnet::emulator::NarrowPair<__half>;
using half2 = __half2;
using __nv_bfloat16 = eqnet::emulator::Bfloat16;
using __nv_bfloat162 = eqnet::emulator::NarrowPair<__nv_bfloat16>;

// Numbers of 16 bits.
template <int E, int F>
using EmulatorNarrow = eqnet::emulator::Narrow<E, F>;

template <int E, int F>
EmulatorNarrow<E, F> __hadd(EmulatorNarrow<E, F> a, EmulatorNarrow<E, F> b) {
  return eqnet::emulator::narrow<EmulatorNarrow<E, F>>(eqnet::emulator::wide(a) + eqnet::emulator::wide(b));
}
template <int E, int F>
EmulatorNarrow<E, F> __hsub(EmulatorNarrow<E, F> a, EmulatorNarrow<E, F> b) {
  return eqnet::emulator::narrow<EmulatorNarrow<E, F>>(eqnet::emulator::wide(a) - eqnet::emulator::wide(b));
}
template <int E, int F>
EmulatorNarrow<E, F> __hmul(EmulatorNarrow<E, F> a, EmulatorNarrow<E, F> b) {
  return eqnet::emulator::narrow<EmulatorNarrow<E, F>>(eqnet::emulator::wide(a) * eqnet::emulator::wide(b));
}
template <int E, int F>
EmulatorNarrow<E, F> __hfma(EmulatorNarrow<E, F> a, EmulatorNarrow<E, F> b, EmulatorNarrow<E, F> c) {
  return eqnet::emulator::fused_multiply_add(a, b, c);
}
template <int E, int F>
EmulatorNarrow<E, F> __hneg(EmulatorNarrow<E, F> a) { return {static_cast<std::uint16_t>(a.bits ^ 0x8000u)}; }
// The number where one is NaN.
template <int E, int F>
EmulatorNarrow<E, F> __hmax(EmulatorNarrow<E, F> a, EmulatorNarrow<E, F> b) {
  if (eqnet::emulator::is_nan(a)) return eqnet::emulator::is_nan(b) ? EmulatorNarrow<E, F>{0x7fff} : b;
  return eqnet::emulator::widen(b) > eqnet::emulator::widen(a) ? b : a;
}
template <int E, int F>
EmulatorNarrow<E, F> __hmin(EmulatorNarrow<E, F> a, EmulatorNarrow<E, F> b) {
  if (eqnet::emulator::is_nan(a)) return eqnet::emulator::is_nan(b) ? EmulatorNarrow<E, F>{0x7fff} : b;
  return eqnet::emulator::widen(b) < eqnet::emulator::widen(a) ? b : a;
}

// Pairs of them.
template <typename T>
using EmulatorPair = eqnet::emulator::NarrowPair<T>;

template <typename T>
EmulatorPair<T> __hadd2(EmulatorPair<T> a, EmulatorPair<T> b) {
  return eqnet::emulator::each([](T x, T y) { return __hadd(x, y); }, a, b);
}
template <typename T>
EmulatorPair<T> __hsub2(EmulatorPair<T> a, EmulatorPair<T> b) {
  return eqnet::emulator::each([](T x, T y) { return __hsub(x, y); }, a, b);
}
template <typename T>
EmulatorPair<T> __hmul2(EmulatorPair<T> a, EmulatorPair<T> b) {
  return eqnet::emulator::each([](T x, T y) { return __hmul(x, y); }, a, b);
}
template <typename T>
EmulatorPair<T> __hfma2(EmulatorPair<T> a, EmulatorPair<T> b, EmulatorPair<T> c) {
  return eqnet::emulator::each([](T x, T y, T z) { return __hfma(x, y, z); }, a, b, c);
}
template <typename T>
EmulatorPair<T> __hneg2(EmulatorPair<T> a) {
  return {__hneg(a.x), __hneg(a.y)};
}
template <typename T>
EmulatorPair<T> __hmax2(EmulatorPair<T> a, EmulatorPair<T> b) {
  return eqnet::emulator::each([](T x, T y) { return __hmax(x, y); }, a, b);
}
template <typename T>
EmulatorPair<T> __hmin2(EmulatorPair<T> a, EmulatorPair<T> b) {
  return eqnet::emulator::each([](T x, T y) { return __hmin(x, y); }, a, b);
}

// Conversions of half.
inline float __half2float(half x) { return eqnet::emulator::widen(x); }
inline half __float2half_rn(float x) { return eqnet::emulator::narrow<half>(static_cast<double>(x)); }
inline half __float2half(float x) { return __float2half_rn(x); }
inline half __int2half_rn(int x) { return eqnet::emulator::narrow<half>(x); }
inline half2 __float2half2_rn(float x) { return {__float2half_rn(x), __float2half_rn(x)}; }
inline half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline half2 __float22half2_rn(float2 x) { return __floats2half2_rn(x.x, x.y); }
inline float2 __half22float2(half2 x) { return {__half2float(x.x), __half2float(x.y)}; }
inline half2 __half2half2(half x) { return {x, x}; }
inline half2 __halves2half2(half x, half y) { return {x, y}; }
inline half __low2half(half2 x) { return x.x; }
inline half __high2half(half2 x) { return x.y; }
inline half __ushort_as_half(unsigned short x) { return {x}; }
inline unsigned short __half_as_ushort(half x) { return x.bits; }

// Conversions of bfloat16.
inline float __bfloat162float(__nv_bfloat16 x) { return eqnet::emulator::widen(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  return eqnet::emulator::narrow<__nv_bfloat16>(static_cast<double>(x));
}
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
inline __nv_bfloat16 __int2bfloat16_rn(int x) { return eqnet::emulator::narrow<__nv_bfloat16>(x); }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(x)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 x) { return __floats2bfloat162_rn(x.x, x.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {__bfloat162float(x.x), __bfloat162float(x.y)}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 x) { return x.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 x) { return x.y; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return {x}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }

// Conversions that CUDA has for both.
inline float __low2float(half2 x) { return __half2float(x.x); }
inline float __high2float(half2 x) { return __half2float(x.y); }
inline float __low2float(__nv_bfloat162 x) { return __bfloat162float(x.x); }
inline float __high2float(__nv_bfloat162 x) { return __bfloat162float(x.y); }
