// A decoder against the same in double, one token at a time; and against itself in other pieces and on other threads.
#include <cmath>
#include <memory>
#include <vector>

#include "../../cpp/cpu/decoder/vectors.h"
#include "check.h"
#include "eqnet/decoder.h"
#include "stored.h"

namespace {

using check::Draw;
using check::Guarded;
using check::Prepared;
using check::Weight;
using eqnet::Activation;
using eqnet::Compute;
using eqnet::Decoder;
using eqnet::DecoderBlock;
using eqnet::DecoderShape;
using eqnet::Projection;
using eqnet::Rotation;

using Row = std::vector<double>;

constexpr double kRounding = 2e-5;  // of logits of about 1: float32 in a few hundred sums and products one after another
constexpr double kVectors = 1e-6;   // relative: exponentials have a polynomial, sums an order of their own

// A linear layer, as it is stored and as the kernels read it.
struct Layer {
  Weight weight;
  Prepared prepared;
  Guarded<float> bias;
  bool biased;

  Layer(std::int64_t rows, std::int64_t cols, std::int64_t group, int bits, bool biased, Draw& draw)
      : weight({rows, cols, std::min(group, cols), bits}, eqnet::ScaleType::kFloat16, true, bits % 2 == 0, draw),
        prepared(weight, 1),
        bias(rows),
        biased(biased) {
    for (std::int64_t i = 0; i < rows; ++i) bias[i] = draw.real(-0.1f, 0.1f);
  }

  Projection view() const { return {prepared.view, biased ? bias.data() : nullptr}; }
  Row times(const Row& x) const {
    Row y(weight.shape.rows);
    for (std::size_t o = 0; o < y.size(); ++o) {
      y[o] = biased ? bias[o] : 0;
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += weight.value(o, i) * x[i];
    }
    return y;
  }
};

// The weight of a norm.
struct Norm : Guarded<float> {
  Norm(std::int64_t size, Draw& draw) : Guarded<float>(size) {
    for (std::int64_t i = 0; i < size; ++i) (*this)[i] = draw.real(0.5f, 1.5f);
  }
};

struct Block {
  Layer query, key, value, output, gate, up, down;
  Norm attention_norm, query_norm, key_norm, after_attention, mlp_norm, after_mlp;
  int rotation;
  std::int64_t window;
};

// What differs between families.
struct Kind {
  std::int64_t heads, kv_heads, head_dim;
  Activation activation;
  bool interleaved, biased, head_norms, after, mixed;
  std::int64_t pairs, window;
  float softcap;
};

Row normed(const Row& x, const Norm& weight, double epsilon) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  Row y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = x[i] / std::sqrt(sum / static_cast<double>(x.size()) + epsilon) * weight[i];
  }
  return y;
}

double softened(double x, double cap) { return cap > 0 ? cap * std::tanh(x / cap) : x; }

double activated(Activation activation, double x) {
  if (activation == Activation::kSilu) return x / (1 + std::exp(-x));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

class Model {
 public:
  static constexpr std::int64_t kHidden = 52, kIntermediate = 70, kVocabulary = 45;

  Model(const Kind& kind, Draw& draw)
      : kind_(kind),
        shape_{kHidden, kind.heads, kind.kv_heads, kind.head_dim, kIntermediate, kind.activation, 1e-5f,
               1 / std::sqrt(static_cast<float>(kind.head_dim)), kind.softcap, kind.softcap},
        rotation_{{}, 1.25f, kind.interleaved},
        norm_(kHidden, draw),
        head_(kVocabulary, kHidden, 32, 5, false, draw) {
    for (std::int64_t i = 0; i < kind.pairs; ++i) {
      rotation_.frequencies.push_back(std::pow(100.0f, -static_cast<float>(i) / static_cast<float>(kind.pairs)));
    }
    const std::int64_t queries = kind.heads * kind.head_dim, keys = kind.kv_heads * kind.head_dim;
    const std::int64_t other = kind.mixed ? 7 : 32;  // a group size that layers with the same input do not share
    for (int i = 0; i < 2; ++i) {
      blocks_.emplace_back(new Block{Layer(queries, kHidden, 32, 4, kind.biased, draw),
                                     Layer(keys, kHidden, other, 3, kind.biased, draw),
                                     Layer(keys, kHidden, 32, 8, kind.biased, draw),
                                     Layer(kHidden, queries, 16, 4, kind.biased, draw),
                                     Layer(kIntermediate, kHidden, 32, 4, kind.biased, draw),
                                     Layer(kIntermediate, kHidden, other, 4, kind.biased, draw),
                                     Layer(kHidden, kIntermediate, 70, 6, kind.biased, draw),
                                     Norm(kHidden, draw), Norm(kind.head_dim, draw), Norm(kind.head_dim, draw),
                                     Norm(kHidden, draw), Norm(kHidden, draw), Norm(kHidden, draw),
                                     i == 1 && kind.window > 0 ? -1 : 0, i == 0 ? kind.window : 0});
    }
  }

  Decoder decoder() const {
    std::vector<DecoderBlock> blocks;
    for (const auto& block : blocks_) {
      blocks.push_back({block->attention_norm.data(), kind_.head_norms ? block->query_norm.data() : nullptr,
                        kind_.head_norms ? block->key_norm.data() : nullptr,
                        kind_.after ? block->after_attention.data() : nullptr, block->mlp_norm.data(),
                        kind_.after ? block->after_mlp.data() : nullptr, block->query.view(), block->key.view(),
                        block->value.view(), block->output.view(), block->gate.view(), block->up.view(),
                        block->down.view(), block->rotation, block->window});
    }
    return Decoder(shape_, {rotation_}, blocks, norm_.data(), head_.view());
  }

  // The logits of every token.
  std::vector<Row> logits(std::vector<Row> x) const {
    for (const auto& block : blocks_) {
      std::vector<Row> keys, values;
      for (std::size_t token = 0; token < x.size(); ++token) {
        const Row input = normed(x[token], block->attention_norm, shape_.norm_epsilon);
        Row key = block->key.times(input), query = block->query.times(input);
        turn(*block, block->key_norm, token, key);
        turn(*block, block->query_norm, token, query);
        keys.push_back(key);
        values.push_back(block->value.times(input));
        Row added = block->output.times(attended(*block, query, keys, values));
        if (kind_.after) added = normed(added, block->after_attention, shape_.norm_epsilon);
        for (std::size_t i = 0; i < added.size(); ++i) x[token][i] += added[i];
      }
      for (Row& row : x) {
        const Row input = normed(row, block->mlp_norm, shape_.norm_epsilon);
        Row gate = block->gate.times(input);
        const Row up = block->up.times(input);
        for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = activated(kind_.activation, gate[i]) * up[i];
        Row added = block->down.times(gate);
        if (kind_.after) added = normed(added, block->after_mlp, shape_.norm_epsilon);
        for (std::size_t i = 0; i < added.size(); ++i) row[i] += added[i];
      }
    }
    for (Row& row : x) {
      row = head_.times(normed(row, norm_, shape_.norm_epsilon));
      for (double& logit : row) logit = softened(logit, shape_.logit_softcap);
    }
    return x;
  }

 private:
  void turn(const Block& block, const Norm& norm, std::size_t position, Row& x) const {
    for (std::int64_t start = 0; start < static_cast<std::int64_t>(x.size()); start += kind_.head_dim) {
      Row head(x.begin() + start, x.begin() + start + kind_.head_dim);
      if (kind_.head_norms) head = normed(head, norm, shape_.norm_epsilon);
      for (std::int64_t i = 0; i < kind_.pairs && block.rotation >= 0; ++i) {
        const std::int64_t a = kind_.interleaved ? 2 * i : i, b = kind_.interleaved ? 2 * i + 1 : i + kind_.pairs;
        const double angle = static_cast<double>(position) * rotation_.frequencies[i];
        const double cosine = rotation_.scale * std::cos(angle), sine = rotation_.scale * std::sin(angle);
        const double first = head[a] * cosine - head[b] * sine, second = head[b] * cosine + head[a] * sine;
        head[a] = first;
        head[b] = second;
      }
      std::copy(head.begin(), head.end(), x.begin() + start);
    }
  }

  Row attended(const Block& block, const Row& query, const std::vector<Row>& keys,
               const std::vector<Row>& values) const {
    const auto tokens = static_cast<std::int64_t>(keys.size());
    Row result(query.size());
    for (std::int64_t head = 0; head < kind_.heads; ++head) {
      const std::int64_t at = head * kind_.head_dim;
      const std::int64_t from = head / (kind_.heads / kind_.kv_heads) * kind_.head_dim;
      Row weights(tokens);
      double sum = 0;
      for (std::int64_t token = 0; token < tokens; ++token) {
        if (block.window > 0 && tokens - token > block.window) continue;
        double score = 0;
        for (std::int64_t i = 0; i < kind_.head_dim; ++i) score += query[at + i] * keys[token][from + i];
        weights[token] = std::exp(softened(score * shape_.attention_scale, shape_.attention_softcap));
        sum += weights[token];
      }
      for (std::int64_t token = 0; token < tokens; ++token) {
        for (std::int64_t i = 0; i < kind_.head_dim; ++i) {
          result[at + i] += weights[token] / sum * values[token][from + i];
        }
      }
    }
    return result;
  }

  Kind kind_;
  DecoderShape shape_;
  Rotation rotation_;
  Norm norm_;
  Layer head_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

const Kind kKinds[] = {
    {6, 2, 20, Activation::kSilu, false, false, false, false, false, 10, 0, 0},
    {4, 4, 33, Activation::kGeluTanh, false, true, true, true, true, 16, 5, 2},
    {5, 1, 64, Activation::kSilu, true, true, false, true, false, 8, 40, 0},
    {3, 3, 8, Activation::kGeluTanh, true, false, true, false, true, 4, 1, 0.5f},
};

// The logits of all tokens, which go in by pieces of these sizes, the last one again and again.
std::vector<float> run(const Decoder& decoder, const std::vector<Row>& x, const std::vector<std::int64_t>& pieces,
                       Compute compute, int threads) {
  const auto tokens = static_cast<std::int64_t>(x.size());
  const auto session = decoder.session(tokens);
  std::vector<float> logits;
  for (std::int64_t first = 0, piece = 0; first < tokens; ++piece) {
    const std::int64_t size = pieces[std::min<std::size_t>(piece, pieces.size() - 1)];
    const std::int64_t rows = std::min(size, tokens - first);
    Guarded<float> input(rows * Model::kHidden), output(rows * Model::kVocabulary);
    for (std::int64_t i = 0; i < input.size(); ++i) {
      input[i] = static_cast<float>(x[first + i / Model::kHidden][i % Model::kHidden]);
    }
    decoder.feed(*session, input.data(), rows, true, output.data(), compute, threads);
    logits.insert(logits.end(), output.data(), output.data() + output.size());
    first += rows;
  }
  EXPECT(session->position() == tokens, "%d", static_cast<int>(session->position()));
  return logits;
}

std::vector<Row> tokens(std::int64_t count, Draw& draw) {
  std::vector<Row> x(count, Row(Model::kHidden));
  for (Row& row : x) {
    for (double& value : row) value = draw.real(-1, 1);
  }
  return x;
}

TEST(decoder_of_every_kind) {
  Draw draw;
  for (const Kind& kind : kKinds) {
    const Model model(kind, draw);
    const Decoder decoder = model.decoder();
    const std::vector<Row> x = tokens(75, draw);
    const std::vector<Row> expected = model.logits(x);
    for (const auto& pieces : std::vector<std::vector<std::int64_t>>{{75}, {1}, {31, 2, 40, 1}}) {
      const std::vector<float> found = run(decoder, x, pieces, Compute::kFloat, 1);
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double exact = expected[i / Model::kVocabulary][i % Model::kVocabulary];
        EXPECT(std::fabs(found[i] - exact) <= kRounding, "%g, not %g, at token %d, by %d: kind %d",
               static_cast<double>(found[i]), exact, static_cast<int>(i / Model::kVocabulary),
               static_cast<int>(pieces[0]), static_cast<int>(&kind - kKinds));
      }
    }
  }
}

// Integers have no order of summation; what is left in floating point keeps one, whatever the rows and threads.
TEST(decoder_in_pieces_and_on_threads) {
  Draw draw;
  for (const Kind& kind : kKinds) {
    const Model model(kind, draw);
    const Decoder decoder = model.decoder();
    const std::vector<Row> x = tokens(300, draw);
    const std::vector<float> whole = run(decoder, x, {300}, Compute::kInt8, 1);
    EXPECT(whole == run(decoder, x, {300}, Compute::kInt8, 3), "%s", "threads");
    EXPECT(whole == run(decoder, x, {33, 1, 100, 2}, Compute::kInt8, 2), "%s", "pieces");
    EXPECT(run(decoder, x, {9}, Compute::kFloat, 1) == run(decoder, x, {9}, Compute::kFloat, 3), "%s", "float");
  }
}

TEST(decoder_gives_the_last_logits_alone) {
  Draw draw;
  const Model model(kKinds[0], draw);
  const Decoder decoder = model.decoder();
  const std::vector<Row> x = tokens(20, draw);
  const std::vector<float> all = run(decoder, x, {20}, Compute::kInt8, 1);
  Guarded<float> input(20 * Model::kHidden), last(Model::kVocabulary);
  for (std::int64_t i = 0; i < input.size(); ++i) {
    input[i] = static_cast<float>(x[i / Model::kHidden][i % Model::kHidden]);
  }
  const auto session = decoder.session(20);
  decoder.feed(*session, input.data(), 20, false, last.data(), Compute::kInt8, 1);
  EXPECT(std::vector<float>(last.data(), last.data() + last.size()) ==
             std::vector<float>(all.end() - Model::kVocabulary, all.end()),
         "%s", "last");
}

TEST(decoder_vectors) {
  Draw draw;
  for (const std::int64_t count : {1, 2, 15, 16, 17, 33, 100}) {
    Guarded<float> x(count), y(count);
    const Norm weight(count, draw);
    Row exact(count);
    for (std::int64_t i = 0; i < count; ++i) exact[i] = x[i] = draw.real(-30, 5);
    eqnet::rms_norm(x.data(), count, weight.data(), 1e-5f, y.data());
    const Row expected = normed(exact, weight, 1e-5);
    for (std::int64_t i = 0; i < count; ++i) {
      EXPECT(std::fabs(y[i] - expected[i]) <= kVectors * std::fabs(expected[i]), "norm %g", expected[i]);
    }
    float most = x[0];
    double sum = 0;
    for (const double value : exact) most = std::fmax(most, static_cast<float>(value));
    for (double& value : exact) value = static_cast<float>(value) - most;  // in float32, as it is rounded there
    for (const double value : exact) sum += std::exp(value);
    const float total = eqnet::exponentials(x.data(), count);
    EXPECT(std::fabs(total - sum) <= kVectors * sum, "sum %g", sum);
    for (std::int64_t i = 0; i < count; ++i) {
      const double wanted = std::exp(exact[i]);
      EXPECT(std::fabs(x[i] - wanted) <= kVectors * wanted, "exp(%g)", exact[i]);
    }
    for (std::int64_t i = 0; i < count; ++i) x[i] = static_cast<float>(exact[i] / 8);
    eqnet::soften(x.data(), count, 2.5f);
    for (std::int64_t i = 0; i < count; ++i) {
      const double wanted = softened(exact[i] / 8, 2.5);
      EXPECT(std::fabs(x[i] - wanted) <= kVectors * std::fabs(wanted), "tanh %g", wanted);
    }
  }
}

// What is far away is as good as 0 or the number itself, and NaN is not lost.
TEST(decoder_activations_of_extremes) {
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const float x : {-1e6f, -200.0f, -90.0f, -1.0f, -1e-20f, 0.0f, 1e-20f, 1.0f, 90.0f, 200.0f, 1e30f}) {
      float gate = x;
      const float up = 2.0f;
      eqnet::activate(activation, &gate, &up, 1);
      const double expected = 2 * activated(activation, x);
      EXPECT(std::fabs(gate - expected) <= kVectors * std::fabs(expected) + 1e-30, "%g of %g", expected,
             static_cast<double>(x));
    }
    float nan = NAN;
    const float up = 1.0f;
    eqnet::activate(activation, &nan, &up, 1);
    EXPECT(std::isnan(nan), "%s", "NaN");
  }
}

}  // namespace
