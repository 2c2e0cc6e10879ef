// Keys and values of a text, in the tiles by which the kernels of linear layers multiply (LinearKernels::gemm_float):
//
//     keys      [blocks, heads, capacity / 32, head_dim, 32]     32 tokens side by side
//     values    [blocks, heads, head_dim / 32, capacity, 32]     32 elements side by side; those behind the last are 0
#pragma once

#include <cstdint>
#include <memory>

#include "eqnet/panels.h"

namespace eqnet {

class KeyValues {
 public:
  // For `length` tokens. Memory is 0, and is taken from the system as it is filled. Throws std::bad_alloc.
  KeyValues(std::int64_t blocks, std::int64_t heads, std::int64_t head_dim, std::int64_t length);

  std::int64_t parts() const { return parts_; }  // of values, of 32 elements

  // Of the tokens from 32 * tile on.
  const float* keys(std::int64_t block, std::int64_t head, std::int64_t tile) const {
    return keys_ + key_offset(block, head, tile);
  }
  // Of the elements from 32 * part on, of the tokens from `token` on.
  const float* values(std::int64_t block, std::int64_t head, std::int64_t part, std::int64_t token) const {
    return values_ + value_offset(block, head, part, token);
  }

  // key, value: [head_dim] of one token.
  void put(std::int64_t block, std::int64_t head, std::int64_t token, const float* key, const float* value);

 private:
  struct Release {
    void operator()(float* memory) const;
  };

  std::int64_t key_offset(std::int64_t block, std::int64_t head, std::int64_t tile) const {
    return ((block * heads_ + head) * capacity_ + tile * kPanel) * head_dim_;
  }
  std::int64_t value_offset(std::int64_t block, std::int64_t head, std::int64_t part, std::int64_t token) const {
    return (((block * heads_ + head) * parts_ + part) * capacity_ + token) * kPanel;
  }

  std::int64_t heads_, head_dim_, parts_, capacity_;
  std::unique_ptr<float[], Release> memory_;
  float *keys_, *values_;
};

}  // namespace eqnet
