#include "vectors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../multiversion.h"

// What is not a part of the function that is compiled for each instruction set would not be vectorised with it.
#define EQNET_PART inline __attribute__((always_inline))

namespace eqnet {
namespace {

constexpr std::int64_t kLanes = 16;  // sums and maxima that are taken side by side, whatever the vectors

// That many floats, from any address on. Compilers make of them what vectors there are.
using Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(alignof(float)), may_alias)) = float;

// exp(x) to about 2e-7 of it; 0 and infinity are some 1e-38 and 2e38. NaN stays.
EQNET_PART float exponential(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer, in the low bits
  constexpr float kLow = -87.0f, kHigh = 88.0f;
  const float bounded = x < kLow ? kLow : x > kHigh ? kHigh : x;
  const float shifted = bounded * 1.44269504f + kRound;
  const float power = shifted - kRound;
  const float rest = (bounded - power * 0.693359375f) + power * 2.12194440e-4f;  // ln 2 in two parts
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * (rest * rest) + rest + 1.0f;
  std::uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits - 0x4b400000u + 127u) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return sum * scale;
}

EQNET_PART float tangent(float x) {
  const float magnitude = std::fabs(x);
  // Near 0 the exponential has lost what is asked for.
  const float square = x * x;
  const float series = x + x * square * (-1.0f / 3 + square * (2.0f / 15 + square * (-17.0f / 315)));
  const float large = 1.0f - 2.0f / (exponential(2.0f * magnitude) + 1.0f);
  return magnitude < 0.1f ? series : std::copysign(large, x);
}

EQNET_MULTIVERSION void multiply_silu(float* __restrict gate, const float* __restrict up, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

EQNET_MULTIVERSION void multiply_gelu(float* __restrict gate, const float* __restrict up, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float x = gate[i];
    gate[i] = 0.5f * x * (1.0f + tangent(0.797884561f * (x + 0.044715f * x * x * x))) * up[i];
  }
}

}  // namespace

EQNET_MULTIVERSION void rms_norm(const float* x, std::int64_t count, const float* weight, float epsilon, float* y) {
  const std::int64_t whole = count / kLanes * kLanes;
  Lanes squares = {};
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    const Lanes& here = *reinterpret_cast<const Lanes*>(x + i);
    squares += here * here;
  }
  for (std::int64_t i = whole; i < count; ++i) squares[i - whole] += x[i] * x[i];
  float sum = 0.0f;
  for (std::int64_t lane = 0; lane < kLanes; ++lane) sum += squares[lane];
  const float inverse = 1.0f / std::sqrt(sum / static_cast<float>(count) + epsilon);
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] * inverse * weight[i];
}

void activate(Activation activation, float* gate, const float* up, std::int64_t count) {
  activation == Activation::kSilu ? multiply_silu(gate, up, count) : multiply_gelu(gate, up, count);
}

EQNET_MULTIVERSION float exponentials(float* x, std::int64_t count) {
  const std::int64_t whole = count / kLanes * kLanes;
  float most = x[0];
  if (whole > 0) {
    Lanes largest = *reinterpret_cast<const Lanes*>(x);
    for (std::int64_t i = kLanes; i < whole; i += kLanes) {
      const Lanes& here = *reinterpret_cast<const Lanes*>(x + i);
      largest = here > largest ? here : largest;
    }
    for (std::int64_t lane = 0; lane < kLanes; ++lane) most = largest[lane] > most ? largest[lane] : most;
  }
  for (std::int64_t i = whole; i < count; ++i) most = x[i] > most ? x[i] : most;
  for (std::int64_t i = 0; i < count; ++i) x[i] = exponential(x[i] - most);
  Lanes sums = {};
  for (std::int64_t i = 0; i < whole; i += kLanes) sums += *reinterpret_cast<const Lanes*>(x + i);
  for (std::int64_t i = whole; i < count; ++i) sums[i - whole] += x[i];
  float sum = 0.0f;
  for (std::int64_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  return sum;
}

EQNET_MULTIVERSION void soften(float* x, std::int64_t count, float cap) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = cap * tangent(x[i] / cap);
}

void rotate(float* x, const float* cosines, const float* sines, std::int64_t pairs, bool interleaved) {
  const std::int64_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : pairs;
  for (std::int64_t i = 0; i < pairs; ++i) {
    float& first = x[i * step];
    float& second = x[i * step + apart];
    const float turned = first * cosines[i] - second * sines[i];
    second = second * cosines[i] + first * sines[i];
    first = turned;
  }
}

}  // namespace eqnet
