// Loops over a vector type V with
//
//     Int, Float                       registers of integers and of float32
//     kRegisters                       sums that fit into registers beside an operand: enough to hide latency
//     load_line(p) -> Int              a line of 64 bytes, folded into a register by exclusive or
//     both(a, b)                       exclusive or
//     dot(sums, a, b) -> Int           adds products of bytes to sums in int32
//     fma(a, b, c) -> Float            a * b + c
//     integers(x), floats(x)           the same number in every lane
//     first(Int | Float)               64 bits of it
//
// Instances of these templates for different instruction sets have different V, and so do not meet in the linker.
#pragma once

#include <utility>

#include "loops.h"

namespace eqnet {
namespace {

// A value that the compiler knows nothing about.
template <class T>
inline void hide(T& value) {
#if defined(__GNUC__)
  __asm__ volatile("" : "+m"(value));
#else
  volatile T copy = value;
  value = copy;
#endif
}

template <class V>
std::uint64_t read_lines(const void* lines, std::size_t count) {
  constexpr std::size_t kInFlight = 8;
  const auto* p = static_cast<const std::uint8_t*>(lines);
  typename V::Int sums[kInFlight];
  for (auto& sum : sums) sum = V::integers(0);
  std::size_t i = 0;
  for (; i + kInFlight <= count; i += kInFlight) {
    for (std::size_t k = 0; k < kInFlight; ++k) sums[k] = V::both(sums[k], V::load_line(p + (i + k) * 64));
  }
  for (; i < count; ++i) sums[0] = V::both(sums[0], V::load_line(p + i * 64));
  for (std::size_t k = 1; k < kInFlight; ++k) sums[0] = V::both(sums[0], sums[k]);
  return V::first(sums[0]);
}

template <class V>
std::uint64_t multiply_bytes(std::int64_t rounds) {
  typename V::Int sums[V::kRegisters];
  for (int k = 0; k < V::kRegisters; ++k) sums[k] = V::integers(k);
  typename V::Int a = V::integers(0x01010101);
  hide(a);
  const typename V::Int b = a;
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (int k = 0; k < V::kRegisters; ++k) sums[k] = V::dot(sums[k], b, b);
  }
  for (int k = 1; k < V::kRegisters; ++k) sums[0] = V::both(sums[0], sums[k]);
  return V::first(sums[0]);
}

template <class V>
std::uint64_t multiply_floats(std::int64_t rounds) {
  typename V::Float sums[V::kRegisters];
  for (int k = 0; k < V::kRegisters; ++k) sums[k] = V::floats(static_cast<float>(k));
  typename V::Float a = V::floats(0.5f);
  hide(a);
  const typename V::Float b = a;
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (int k = 0; k < V::kRegisters; ++k) sums[k] = V::fma(b, b, sums[k]);
  }
  for (int k = 1; k < V::kRegisters; ++k) sums[0] = V::fma(sums[0], b, sums[k]);
  return V::first(sums[0]);
}

template <class V>
constexpr RooflineLoops roofline_loops(Isa isa) {
  // A product and its addition are two operations.
  return {isa,
          2.0 * V::kRegisters * sizeof(typename V::Int),
          2.0 * V::kRegisters * (sizeof(typename V::Float) / sizeof(float)),
          read_lines<V>,
          multiply_bytes<V>,
          multiply_floats<V>};
}

}  // namespace
}  // namespace eqnet
