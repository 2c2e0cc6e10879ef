#include "attention.h"

#include <algorithm>
#include <cstring>

#include "../linear/product.h"
#include "../linear/scratch.h"
#include "eqnet/threads.h"
#include "vectors.h"

namespace eqnet {
namespace {

constexpr std::int64_t kQueries = 48;         // rows of one task, about: what a tile of keys is read once for
constexpr std::int64_t kTokens = KeyValues::kStretch;  // whose values are read for all rows before others are: 16 KiB
constexpr std::int64_t kSerialWork = 100000;  // products, below which a second thread is not worth waking

// Norms and turns one head of the token at `row`.
void turn(const Attention& attention, std::int64_t row, const float* norm, float* x) {
  const DecoderShape& shape = attention.shape;
  if (norm != nullptr) rms_norm(x, shape.head_dim, norm, shape.norm_epsilon, x);
  const Rotation* rotation = attention.angles.rotation;
  if (rotation == nullptr) return;
  const auto pairs = static_cast<std::int64_t>(rotation->frequencies.size());
  rotate(x, attention.angles.cosines + row * pairs, attention.angles.sines + row * pairs, pairs,
         rotation->interleaved);
}

// The queries of all heads that share one of keys, of the tokens [first, first + count).
class Task {
 public:
  Task(const Attention& attention, std::int64_t head, std::int64_t first, std::int64_t count)
      : attention_(attention),
        head_(head),
        first_(first),
        group_(attention.shape.heads / attention.shape.kv_heads),
        rows_(count * group_),
        begin_(first_key(first) / kTokens * kTokens),
        end_(attention.position + first + count),
        stride_((end_ - begin_ + kPanel - 1) / kPanel * kPanel + kHalf) {}

  void run(const float* queries, float* out) {
    static thread_local Scratch memory;
    const std::int64_t dim = attention_.shape.head_dim;
    auto* x = memory.get<float>(rows_ * (dim + stride_ + 2 * kPanel));
    scores_ = x + rows_ * dim;
    sums_ = scores_ + rows_ * stride_;
    inverse_ = sums_ + rows_ * kPanel;
    take(queries, x);
    score(x);
    for (std::int64_t row = 0; row < rows_; ++row) weigh(row);
    for (std::int64_t part = 0; part < attention_.memory.parts(); ++part) {
      sum(part);
      store(part, out);
    }
  }

 private:
  std::int64_t first_key(std::int64_t token) const {
    const std::int64_t window = attention_.block.window;
    return window > 0 ? std::max<std::int64_t>(attention_.position + token - window + 1, 0) : 0;
  }
  std::int64_t offset(std::int64_t row) const {  // in queries and out
    const DecoderShape& shape = attention_.shape;
    return ((first_ + row / group_) * shape.heads + head_ * group_ + row % group_) * shape.head_dim;
  }

  void take(const float* queries, float* x) const {
    const std::int64_t dim = attention_.shape.head_dim;
    for (std::int64_t row = 0; row < rows_; ++row, x += dim) {
      std::copy_n(queries + offset(row), dim, x);
      turn(attention_, first_ + row / group_, attention_.block.query_norm, x);
      for (std::int64_t i = 0; i < dim; ++i) x[i] *= attention_.shape.attention_scale;
    }
  }

  void score(const float* x) const {
    const LinearKernels& kernels = linear_kernels();
    const std::int64_t dim = attention_.shape.head_dim;
    for (std::int64_t key = begin_; key < end_; key += kPanel) {
      const float* tile = attention_.memory.keys(attention_.index, head_, key);
      std::fill_n(sums_, rows_ * kPanel, 0.0f);
      for (std::int64_t row = 0; row < rows_; row += kernels.float_tile_rows) {
        const std::int64_t size = std::min<std::int64_t>(rows_ - row, kernels.float_tile_rows);
        kernels.gemm_float[size](tile, dim, x + row * dim, dim, sums_ + row * kPanel);
      }
      for (std::int64_t row = 0; row < rows_; ++row) {
        std::memcpy(scores_ + row * stride_ + key - begin_, sums_ + row * kPanel, kPanel * sizeof(float));
      }
    }
  }

  // From scores to the weights of values, which the inverse of their sum is kept for.
  void weigh(std::int64_t row) const {
    const std::int64_t token = first_ + row / group_;
    const std::int64_t from = first_key(token) - begin_, to = attention_.position + token + 1 - begin_;
    float* scores = scores_ + row * stride_;
    if (attention_.shape.attention_softcap > 0) soften(scores + from, to - from, attention_.shape.attention_softcap);
    std::fill(scores, scores + from, 0.0f);
    std::fill(scores + to, scores + end_ - begin_, 0.0f);
    inverse_[row] = 1.0f / exponentials(scores + from, to - from);
  }

  void sum(std::int64_t part) const {
    const LinearKernels& kernels = linear_kernels();
    std::fill_n(sums_, rows_ * kPanel, 0.0f);
    for (std::int64_t key = begin_; key < end_; key += kTokens) {
      const std::int64_t count = std::min(kTokens, end_ - key);
      const float* tile = attention_.memory.values(attention_.index, head_, part, key);
      for (std::int64_t row = 0; row < rows_; row += kernels.float_tile_rows) {
        const std::int64_t size = std::min<std::int64_t>(rows_ - row, kernels.float_tile_rows);
        kernels.gemm_float[size](tile, count, scores_ + row * stride_ + key - begin_, stride_, sums_ + row * kPanel);
      }
    }
  }

  void store(std::int64_t part, float* out) const {
    const std::int64_t count = std::min(kPanel, attention_.shape.head_dim - part * kPanel);
    for (std::int64_t row = 0; row < rows_; ++row) {
      float* to = out + offset(row) + part * kPanel;
      for (std::int64_t i = 0; i < kPanel; ++i) sums_[row * kPanel + i] *= inverse_[row];
      std::copy_n(sums_ + row * kPanel, count, to);
    }
  }

  const Attention& attention_;
  std::int64_t head_, first_, group_, rows_;
  std::int64_t begin_, end_;  // of the keys, from the start of a stretch of kTokens on
  std::int64_t stride_;       // of scores; rows a power of two apart would share a few sets of the cache
  float *scores_ = nullptr, *sums_ = nullptr, *inverse_ = nullptr;
};

}  // namespace

void remember(const Attention& attention, float* keys, const float* values, int threads) {
  const DecoderShape& shape = attention.shape;
  const std::int64_t heads = shape.kv_heads, dim = shape.head_dim;
  // Tokens of one tile go to one thread: their keys lie side by side.
  const std::int64_t first_tile = attention.position / kPanel;
  const std::int64_t tiles = (attention.position + attention.tokens - 1) / kPanel - first_tile + 1;
  parallel_for(tiles * heads, attention.tokens * heads * dim > kSerialWork / 4 ? threads : 1, [&](std::int64_t task) {
    const std::int64_t head = task % heads, tile = first_tile + task / heads;
    const std::int64_t first = std::max(tile * kPanel - attention.position, std::int64_t{0});
    const std::int64_t end = std::min((tile + 1) * kPanel - attention.position, attention.tokens);
    for (std::int64_t token = first; token < end; ++token) {
      const std::int64_t at = (token * heads + head) * dim;
      turn(attention, token, attention.block.key_norm, keys + at);
      attention.memory.put(attention.index, head, attention.position + token, keys + at, values + at);
    }
  });
}

void attend(const Attention& attention, const float* queries, float* out, int threads) {
  const DecoderShape& shape = attention.shape;
  const std::int64_t per_task = std::max<std::int64_t>(kQueries * shape.kv_heads / shape.heads, 1);
  const std::int64_t stretches = (attention.tokens + per_task - 1) / per_task;
  const std::int64_t work = attention.tokens * (attention.position + attention.tokens) * shape.heads * shape.head_dim;
  // The last tokens see most, and so go first.
  parallel_for(stretches * shape.kv_heads, work > kSerialWork ? threads : 1, [&](std::int64_t task) {
    const std::int64_t first = (stretches - 1 - task / shape.kv_heads) * per_task;
    Task(attention, task % shape.kv_heads, first, std::min(per_task, attention.tokens - first)).run(queries, out);
  });
}

}  // namespace eqnet
