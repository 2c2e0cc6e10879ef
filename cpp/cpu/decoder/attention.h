// Attention of some tokens to all tokens so far.
#pragma once

#include <cstdint>

#include "eqnet/decoder.h"
#include "key_values.h"

namespace eqnet {

// Angles of a stretch of positions.
struct Angles {
  const Rotation* rotation;  // null: queries and keys stay
  const float* cosines;      // [tokens, pairs]
  const float* sines;
};

struct Attention {
  const DecoderShape& shape;
  const DecoderBlock& block;
  std::int64_t index;  // of the block
  Angles angles;
  KeyValues& memory;
  std::int64_t position;  // of the first token
  std::int64_t tokens;
};

// Norms and turns keys, which it overwrites, and remembers them and the values. keys, values: [tokens, kv_heads *
// head_dim].
void remember(const Attention& attention, float* keys, const float* values, int threads);

// queries, out: [tokens, heads * head_dim]. What a token gets does not depend on which tokens it comes with.
void attend(const Attention& attention, const float* queries, float* out, int threads);

}  // namespace eqnet
