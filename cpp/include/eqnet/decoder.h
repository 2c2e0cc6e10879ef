// A decoder of language models, whole: from embedded tokens to logits.
//
//     x += after_attention(output(attention(norm(x))))                  for each block
//     x += after_mlp(down(activation(gate(norm(x))) * up(norm(x))))
//     logits = head(norm(x))
//
// Norms are RMS norms; what comes after, most families lack. Keys and values are kept in float32, in memory for the whole
// text, which a session holds.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "eqnet/linear.h"
#include "eqnet/panels.h"

namespace eqnet {

enum class Activation : int { kSilu, kGeluTanh };

// How positions turn queries and keys: pair i of elements by the angle position * frequencies[i].
struct Rotation {
  std::vector<float> frequencies;  // one a pair; elements behind the last pair stay as they are
  float scale = 1.0f;              // of cosines and sines
  bool interleaved = false;        // pairs are (2i, 2i + 1); else (i, i + pairs)
};

struct DecoderShape {
  std::int64_t hidden;
  std::int64_t heads;     // of queries; a multiple of kv_heads
  std::int64_t kv_heads;  // of keys and values
  std::int64_t head_dim;
  std::int64_t intermediate;  // rows of gate and up
  Activation activation;
  float norm_epsilon;
  float attention_scale;    // of products of queries and keys
  float attention_softcap;  // those become softcap * tanh(product / softcap); 0: they stay
  float logit_softcap;      // the same of logits
};

struct Projection {
  Panels weights;
  const float* bias;  // [weights.shape.rows], or null
};

// Norms: float32 [hidden], those of queries and keys [head_dim].
struct DecoderBlock {
  const float* attention_norm;
  const float* query_norm;       // or null
  const float* key_norm;         // or null
  const float* after_attention;  // or null
  const float* mlp_norm;
  const float* after_mlp;  // or null
  Projection query, key, value, output, gate, up, down;
  int rotation;         // index, or -1: none
  std::int64_t window;  // of the last keys that a query sees, its own included; 0: all of them
};

// One text: keys and values of the tokens so far, and memory for those that come.
class DecoderSession {
 public:
  ~DecoderSession();

  std::int64_t length() const { return length_; }      // the most tokens
  std::int64_t position() const { return position_; }  // tokens so far

 private:
  friend class Decoder;
  struct Memory;

  DecoderSession(const DecoderShape& shape, std::int64_t blocks, std::int64_t length);

  std::int64_t length_, position_ = 0;
  std::unique_ptr<Memory> memory_;
};

class Decoder {
 public:
  // What blocks and norms refer to must outlive the decoder.
  Decoder(const DecoderShape& shape, std::vector<Rotation> rotations, std::vector<DecoderBlock> blocks,
          const float* norm, const Projection& head);

  const DecoderShape& shape() const { return shape_; }

  // A text of at most `length` tokens. Memory is taken as it is filled. Throws std::bad_alloc.
  std::unique_ptr<DecoderSession> session(std::int64_t length) const;

  // Appends `rows` tokens, for which the session has places.
  //
  // x: their embeddings, float32 [rows, hidden]; overwritten. all: whether logits are wanted for each of them, or for
  // the last alone. logits: float32 [rows or 1, head.weights.shape.rows]. Results do not depend on `threads`.
  void feed(DecoderSession& session, float* x, std::int64_t rows, bool all, float* logits, Compute compute,
            int threads) const;

 private:
  struct Step;

  void run(const Step& step) const;
  void multiply(const Projection* const* projections, float* const* results, int count, const Step& step) const;
  void attend(const DecoderBlock& block, std::int64_t index, const Step& step) const;
  void transform(const DecoderBlock& block, const Step& step) const;
  void add(const Projection& projection, const float* x, const float* after, const Step& step) const;
  void project(const Step& step, const float* x, std::int64_t rows, float* logits) const;

  DecoderShape shape_;
  std::vector<Rotation> rotations_;
  std::vector<DecoderBlock> blocks_;
  const float* norm_;
  Projection head_;
};

}  // namespace eqnet
