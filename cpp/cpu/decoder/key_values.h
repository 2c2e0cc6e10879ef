// Keys and values of a text, in the tiles by which the kernels of linear layers multiply (LinearKernels::gemm_float).
//
//     [stretches of 128 tokens, blocks, heads] of
//         keys      [4, head_dim, 32]                32 tokens side by side
//         values    [head_dim / 32, 128, 32]         32 elements side by side; those behind the last are 0
//
// Tokens come first, so that memory fills up from its start as a text grows.
#pragma once

#include <cstdint>
#include <memory>

#include "eqnet/panels.h"

namespace eqnet {

class KeyValues {
 public:
  static constexpr std::int64_t kStretch = 128;  // tokens

  // For `length` tokens. Memory is 0, and is taken from the system as it is filled. Throws std::bad_alloc.
  KeyValues(std::int64_t blocks, std::int64_t heads, std::int64_t head_dim, std::int64_t length);

  std::int64_t parts() const { return parts_; }  // of values, of 32 elements

  // Keys of 32 tokens from `token` on, a multiple of 32.
  const float* keys(std::int64_t block, std::int64_t head, std::int64_t token) const {
    return memory_.get() + key_offset(block, head, token);
  }
  // Of the elements from 32 * part on, of the tokens from `token` to the end of their stretch.
  const float* values(std::int64_t block, std::int64_t head, std::int64_t part, std::int64_t token) const {
    return memory_.get() + value_offset(block, head, part, token);
  }

  // key, value: [head_dim] of one token.
  void put(std::int64_t block, std::int64_t head, std::int64_t token, const float* key, const float* value);

 private:
  struct Release {
    std::size_t bytes;
    void operator()(float* memory) const;
  };

  std::int64_t record(std::int64_t block, std::int64_t head, std::int64_t token) const {
    return ((token / kStretch * blocks_ + block) * heads_ + head) * kStretch * (head_dim_ + parts_ * kPanel);
  }
  std::int64_t key_offset(std::int64_t block, std::int64_t head, std::int64_t token) const {
    return record(block, head, token) + token % kStretch / kPanel * kPanel * head_dim_;
  }
  std::int64_t value_offset(std::int64_t block, std::int64_t head, std::int64_t part, std::int64_t token) const {
    return record(block, head, token) + kStretch * (head_dim_ + part * kPanel) + token % kStretch * kPanel;
  }

  std::int64_t blocks_, heads_, head_dim_, parts_;
  std::unique_ptr<float[], Release> memory_;
};

}  // namespace eqnet
