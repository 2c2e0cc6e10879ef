#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../conv/aligned.h"
#include "../scales.h"
#include "eqnet/serialized.h"
#include "reader.h"

namespace eqnet {
namespace {

using serialized::Reader;
using serialized::Weight;

// A weight in the order of the kernels, made when it is first asked for.
class Prepared {
 public:
  explicit Prepared(const Weight& stored) : stored_(stored) {}

  const Weight& stored() const { return stored_; }

  const Panels& panels(int threads) {
    std::call_once(made_, [&] { make(threads); });
    return panels_;
  }

  // Sums of the rows of the dequantized weight, which static inputs need.
  const float* row_sums(int threads) {
    std::call_once(summed_, [&] { sum(threads); });
    return sums_.data();
  }

 private:
  void make(int threads) {
    const PanelShape shape{stored_.rows, stored_.cols, stored_.group_size, stored_.bits};
    // Kernels read scales as numbers of their type, which must lie at an address for them.
    const auto* scale = stored_.scale;
    const conv::Aligned<std::uint8_t> scales(scale, scale + stored_.scales() * scale_bytes(stored_.scale_type));
    codes_.resize(shape.code_bytes());
    scales_.resize(shape.scale_count() * scale_bytes(stored_.scale_type));
    zeros_.resize(stored_.symmetric ? 0 : shape.scale_count());
    std::uint8_t* zeros = stored_.symmetric ? nullptr : zeros_.data();
    fill_panels(shape, stored_.codes, scales.data(), static_cast<int>(scale_bytes(stored_.scale_type)),
                stored_.scale_per_row, stored_.zero_point, codes_.data(), scales_.data(), zeros, threads);
    panels_ = {shape, codes_.data(), scales_.data(), stored_.scale_type, zeros};
  }

  void sum(int threads) {
    std::vector<float> dense(static_cast<std::size_t>(stored_.rows * stored_.cols));
    dequantize_panels(panels(threads), dense.data(), threads);
    for (std::int64_t row = 0; row < stored_.rows; ++row) {
      double sum = 0;
      for (std::int64_t col = 0; col < stored_.cols; ++col) sum += dense[row * stored_.cols + col];
      sums_.push_back(static_cast<float>(sum));
    }
  }

  Weight stored_;
  std::once_flag made_, summed_;
  conv::Aligned<std::uint8_t> codes_, scales_, zeros_;
  Panels panels_{};
  std::vector<float> sums_;
};

class Layer final : public LinearLayer {
 public:
  Layer(std::shared_ptr<Prepared> weight, Compute compute, const StaticInput& input, std::vector<float> bias)
      : weight_(std::move(weight)), compute_(compute), input_(input), bias_(std::move(bias)) {}

  std::int64_t inputs() const override { return weight_->stored().cols; }
  std::int64_t outputs() const override { return weight_->stored().rows; }

  void run(const void* x, void* y, Element element, std::int64_t rows, int threads) override {
    const bool is_static = compute_ == Compute::kStatic;
    linear(weight_->panels(threads), x, y, element, rows, bias_.empty() ? nullptr : bias_.data(), compute_,
           is_static ? &input_ : nullptr, is_static ? weight_->row_sums(threads) : nullptr, threads);
  }

 private:
  std::shared_ptr<Prepared> weight_;
  Compute compute_;
  StaticInput input_;
  std::vector<float> bias_;
};

StaticInput static_input(Reader& reader, Compute compute) {
  const float scale = reader.real("input scale");
  const auto code = [&](const char* name, std::int64_t least, std::int64_t greatest) {
    return static_cast<std::int32_t>(reader.integer(name, least, greatest));
  };
  StaticInput input{scale, code("zero point", -128, 255), code("least code", -128, 255),
                    code("greatest code", -128, 255)};
  if (compute == Compute::kStatic &&
      (!(scale > 0) || input.qmin > input.zero_point || input.zero_point > input.qmax ||
       input.qmax - input.qmin > 255)) {
    reader.fail("its input has no 8-bit codes");
  }
  return input;
}

}  // namespace

LinearLayers::LinearLayers(const std::uint8_t* data, std::size_t bytes) {
  Reader reader(data, bytes, serialized::Kind::kLinearLayers);
  std::vector<std::shared_ptr<Prepared>> weights;
  for (const Weight& weight : reader.weights()) weights.push_back(std::make_shared<Prepared>(weight));
  reader.enter("linear layers");
  const std::int64_t layers = reader.count("number of layers");
  for (std::int64_t i = 0; i < layers; ++i) {
    reader.enter("layer " + std::to_string(i));
    const std::int64_t length = reader.integer("bytes of its name", 0, 65535);
    const std::string name(reinterpret_cast<const char*>(reader.array("name", length, 1)),
                           static_cast<std::size_t>(length));
    reader.enter("layer '" + name + "'");
    const auto& weight = weights.at(reader.integer("weight", 0, static_cast<std::int64_t>(weights.size()) - 1));
    const auto compute = static_cast<Compute>(reader.integer("compute", 0, 2));
    const StaticInput input = static_input(reader, compute);
    std::vector<float> bias;
    if (reader.flag("has a bias")) bias = reader.floats("bias", weight->stored().rows);
    if (!layers_.emplace(name, std::make_unique<Layer>(weight, compute, input, std::move(bias))).second) {
      reader.fail("it is there twice");
    }
  }
  reader.enter("linear layers");
  reader.end();
}

LinearLayer& LinearLayers::at(std::string_view name) const {
  const auto found = layers_.find(name);
  if (found == layers_.end()) throw std::invalid_argument("there is no linear layer '" + std::string(name) + "'");
  return *found->second;
}

}  // namespace eqnet
