// What a decoder does to rows of floats between its products. Results are the same on every instruction set.
#pragma once

#include <cstdint>

#include "eqnet/decoder.h"

namespace eqnet {

// y = x / sqrt(mean(x^2) + epsilon) * weight. x, weight, y: [count]; y may be x.
void rms_norm(const float* x, std::int64_t count, const float* weight, float epsilon, float* y);

// gate = activation(gate) * up
void activate(Activation activation, float* gate, const float* up, std::int64_t count);

// Makes exp(x - max(x)) of x and returns the sum of that. count: at least 1.
float exponentials(float* x, std::int64_t count);

// x = cap * tanh(x / cap)
void soften(float* x, std::int64_t count, float cap);

// Turns pairs of x by angles of these cosines and sines.
void rotate(float* x, const float* cosines, const float* sines, std::int64_t pairs, bool interleaved);

}  // namespace eqnet
