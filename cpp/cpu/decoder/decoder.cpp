#include "eqnet/decoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "../linear/scratch.h"
#include "attention.h"
#include "channels.h"
#include "eqnet/threads.h"
#include "inputs.h"
#include "key_values.h"
#include "vectors.h"

namespace eqnet {
namespace {

constexpr std::int64_t kRows = 256;           // that go through all blocks at once: what bounds memory
constexpr std::int64_t kSerialSize = 16384;   // elements, below which a second thread is not worth waking
constexpr std::int64_t kNormRows = 8;         // of one task
constexpr std::int64_t kStreamed = 8;         // rows, up to which products wait for memory, which is best read in order

void norm_rows(const float* x, std::int64_t rows, std::int64_t cols, const float* weight, float epsilon, float* y,
               int threads) {
  parallel_for((rows + kNormRows - 1) / kNormRows, rows * cols > kSerialSize ? threads : 1, [&](std::int64_t task) {
    for (std::int64_t row = task * kNormRows; row < std::min((task + 1) * kNormRows, rows); ++row) {
      rms_norm(x + row * cols, cols, weight, epsilon, y + row * cols);
    }
  });
}

}  // namespace

struct DecoderSession::Memory {
  explicit Memory(KeyValues made) : key_values(std::move(made)) {}

  KeyValues key_values;
  Inputs inputs;
  Scratch normed, query, key, value, attended, gated, up, added;
  std::vector<std::vector<float>> cosines, sines;  // of each rotation, [rows, pairs]
};

DecoderSession::DecoderSession(const DecoderShape& shape, std::int64_t blocks, std::int64_t length)
    : length_(length),
      memory_(std::make_unique<Memory>(KeyValues(blocks, shape.kv_heads, shape.head_dim, length))) {}

DecoderSession::~DecoderSession() = default;

// Some tokens on their way through the blocks.
struct Decoder::Step {
  DecoderSession::Memory& memory;
  float* x;  // [rows, hidden]
  std::int64_t rows;
  std::int64_t position;
  Compute compute;
  int threads;
};

Decoder::Decoder(const DecoderShape& shape, std::vector<Rotation> rotations, std::vector<DecoderBlock> blocks,
                 const float* norm, const Projection& head)
    : shape_(shape), rotations_(std::move(rotations)), blocks_(std::move(blocks)), norm_(norm), head_(head) {}

std::unique_ptr<DecoderSession> Decoder::session(std::int64_t length) const {
  return std::unique_ptr<DecoderSession>(
      new DecoderSession(shape_, static_cast<std::int64_t>(blocks_.size()), length));
}

void Decoder::feed(DecoderSession& session, float* x, std::int64_t rows, bool all, float* logits, Compute compute,
                   int threads) const {
  for (std::int64_t first = 0; first < rows; first += kRows) {
    const Step step{*session.memory_, x + first * shape_.hidden, std::min(kRows, rows - first), session.position_,
                    compute, threads};
    run(step);
    session.position_ += step.rows;
    if (all) {
      project(step, step.x, step.rows, logits + first * head_.weights.shape.rows);
    } else if (first + step.rows == rows) {
      project(step, step.x + (step.rows - 1) * shape_.hidden, 1, logits);
    }
  }
}

void Decoder::run(const Step& step) const {
  DecoderSession::Memory& memory = step.memory;
  memory.cosines.resize(rotations_.size());
  memory.sines.resize(rotations_.size());
  for (std::size_t i = 0; i < rotations_.size(); ++i) {
    const Rotation& rotation = rotations_[i];
    memory.cosines[i].clear();
    memory.sines[i].clear();
    for (std::int64_t row = 0; row < step.rows; ++row) {
      for (const float frequency : rotation.frequencies) {
        const float angle = static_cast<float>(step.position + row) * frequency;
        memory.cosines[i].push_back(std::cos(angle) * rotation.scale);
        memory.sines[i].push_back(std::sin(angle) * rotation.scale);
      }
    }
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    attend(blocks_[i], static_cast<std::int64_t>(i), step);
    transform(blocks_[i], step);
  }
}

// results: [rows, channels] of each projection, for whose weights the inputs are prepared.
void Decoder::multiply(const Projection* const* projections, float* const* results, int count, const Step& step) const {
  const Inputs& inputs = step.memory.inputs;
  const Panels* weights[Product::kMostWeights];
  for (int i = 0; i < count; ++i) weights[i] = &projections[i]->weights;
  inputs.of(0).each_panel(
      weights, count, 1, step.threads, [&](int which, std::int64_t panel, std::int64_t first, std::int64_t size) {
        const Channels channels(*projections[which], panel);
        float* to = results[which] + channels.first;
        each_sum(inputs.of(which), *weights[which], panel, first, size, [&](std::int64_t row, float* sums) {
          channels.add_bias(sums);
          channels.copy(sums, to + row * weights[which]->shape.rows);
        });
      });
}

void Decoder::attend(const DecoderBlock& block, std::int64_t index, const Step& step) const {
  DecoderSession::Memory& memory = step.memory;
  const Projection* projections[] = {&block.query, &block.key, &block.value};
  const Panels* weights[] = {&block.query.weights, &block.key.weights, &block.value.weights};
  float* results[] = {memory.query.get<float>(step.rows * block.query.weights.shape.rows),
                      memory.key.get<float>(step.rows * block.key.weights.shape.rows),
                      memory.value.get<float>(step.rows * block.value.weights.shape.rows)};
  float* normed = memory.normed.get<float>(step.rows * shape_.hidden);
  norm_rows(step.x, step.rows, shape_.hidden, block.attention_norm, shape_.norm_epsilon, normed, step.threads);
  memory.inputs.prepare(weights, 3, normed, step.rows, step.compute, step.threads);
  multiply(projections, results, 3, step);

  const bool turned = block.rotation >= 0;
  const auto which = static_cast<std::size_t>(turned ? block.rotation : 0);
  const Angles angles{turned ? &rotations_[which] : nullptr, turned ? memory.cosines[which].data() : nullptr,
                      turned ? memory.sines[which].data() : nullptr};
  const Attention attention{shape_, block, index, angles, memory.key_values, step.position, step.rows};
  float* attended = memory.attended.get<float>(step.rows * shape_.heads * shape_.head_dim);
  remember(attention, results[1], results[2], step.threads);
  eqnet::attend(attention, results[0], attended, step.threads);
  add(block.output, attended, block.after_attention, step);
}

void Decoder::transform(const DecoderBlock& block, const Step& step) const {
  DecoderSession::Memory& memory = step.memory;
  const Projection* projections[] = {&block.gate, &block.up};
  const Panels* weights[] = {&block.gate.weights, &block.up.weights};
  float* normed = memory.normed.get<float>(step.rows * shape_.hidden);
  float* gated = memory.gated.get<float>(step.rows * shape_.intermediate);
  norm_rows(step.x, step.rows, shape_.hidden, block.mlp_norm, shape_.norm_epsilon, normed, step.threads);
  memory.inputs.prepare(weights, 2, normed, step.rows, step.compute, step.threads);
  if (step.rows <= kStreamed) {
    float* up = memory.up.get<float>(step.rows * shape_.intermediate);
    float* results[] = {gated, up};
    multiply(projections, results, 2, step);
    activate(shape_.activation, gated, up, step.rows * shape_.intermediate);
  } else {
    // A panel of gate and the same one of up, so that what is made of both is made at once.
    memory.inputs.of(0).each_panel(
        weights, 1, 2, step.threads, [&](int, std::int64_t panel, std::int64_t first, std::int64_t count) {
          alignas(64) float sums[Product::kMostRows * kPanel], up[Product::kMostRows * kPanel];
          memory.inputs.of(0).multiply(*weights[0], panel, first, count, sums);
          memory.inputs.of(1).multiply(*weights[1], panel, first, count, up);
          const Channels of_gate(block.gate, panel), of_up(block.up, panel);
          for (std::int64_t row = 0; row < count; ++row) {
            of_gate.add_bias(sums + row * kPanel);
            of_up.add_bias(up + row * kPanel);
          }
          activate(shape_.activation, sums, up, count * kPanel);
          for (std::int64_t row = 0; row < count; ++row) {
            of_gate.copy(sums + row * kPanel, gated + (first + row) * shape_.intermediate + of_gate.first);
          }
        });
  }
  add(block.down, gated, block.after_mlp, step);
}

void Decoder::add(const Projection& projection, const float* x, const float* after, const Step& step) const {
  const Panels* weights = &projection.weights;
  const std::int64_t hidden = shape_.hidden;
  float* added = after == nullptr ? nullptr : step.memory.added.get<float>(step.rows * hidden);
  step.memory.inputs.prepare(&weights, 1, x, step.rows, step.compute, step.threads);
  step.memory.inputs.of(0).each_panel(
      &weights, 1, 1, step.threads, [&](int, std::int64_t panel, std::int64_t first, std::int64_t count) {
        const Channels channels(projection, panel);
        each_sum(step.memory.inputs.of(0), *weights, panel, first, count, [&](std::int64_t row, float* sums) {
          channels.add_bias(sums);
          if (after != nullptr) {
            channels.copy(sums, added + row * hidden + channels.first);
          } else {
            channels.add(step.x + row * hidden + channels.first, sums);
          }
        });
      });
  if (after == nullptr) return;
  norm_rows(added, step.rows, hidden, after, shape_.norm_epsilon, added, step.threads);
  for (std::int64_t i = 0; i < step.rows * hidden; ++i) step.x[i] += added[i];
}

void Decoder::project(const Step& step, const float* x, std::int64_t rows, float* logits) const {
  const Panels* weights = &head_.weights;
  const std::int64_t vocabulary = weights->shape.rows;
  float* normed = step.memory.normed.get<float>(rows * shape_.hidden);
  norm_rows(x, rows, shape_.hidden, norm_, shape_.norm_epsilon, normed, step.threads);
  step.memory.inputs.prepare(&weights, 1, normed, rows, step.compute, step.threads);
  step.memory.inputs.of(0).each_panel(
      &weights, 1, 1, step.threads, [&](int, std::int64_t panel, std::int64_t first, std::int64_t count) {
        const Channels channels(head_, panel);
        each_sum(step.memory.inputs.of(0), *weights, panel, first, count, [&](std::int64_t row, float* sums) {
          channels.add_bias(sums);
          if (shape_.logit_softcap > 0) soften(sums, channels.count, shape_.logit_softcap);
          channels.copy(sums, logits + row * vocabulary + channels.first);
        });
      });
}

}  // namespace eqnet
