#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "operation.h"

namespace eqnet::program {
namespace {

std::string text(const ImageSize& size) {
  return "[" + std::to_string(size.channels) + ", " + std::to_string(size.height) + ", " +
         std::to_string(size.width) + "]";
}

// Calls row(image, y) for the rows of a part.
template <class Row>
void for_rows(const Frame& frame, int value, std::int64_t part, std::int64_t parts, const Row& row) {
  const std::int64_t height = frame.placed(value).size.height, rows = frame.images * height;
  for (std::int64_t r = rows * part / parts; r < rows * (part + 1) / parts; ++r) row(r / height, r % height);
}

class Input final : public Operation {
 public:
  explicit Input(std::int64_t channels) : Operation({}), channels_(channels) {}

  ImageSize size(const std::vector<ImageSize>& inputs) const override {
    return {channels_, inputs[0].height, inputs[0].width};
  }

  void run(const Frame& frame, std::int64_t part, std::int64_t parts) const override {
    const ImageSize& size = frame.placed(output).size;
    if (size.channels == 1) {
      for_rows(frame, output, part, parts, [&](std::int64_t image, std::int64_t y) {
        frame.write_row(output, image, y, frame.input + (image * size.height + y) * size.width, finish);
      });
      return;
    }
    std::vector<float> row(size.width * size.channels);
    for_rows(frame, output, part, parts, [&](std::int64_t image, std::int64_t y) {
      for (std::int64_t c = 0; c < size.channels; ++c) {
        const float* from = frame.input + ((image * size.channels + c) * size.height + y) * size.width;
        for (std::int64_t x = 0; x < size.width; ++x) row[x * size.channels + c] = from[x];
      }
      frame.write_row(output, image, y, row.data(), finish);
    });
  }

 private:
  std::int64_t channels_;
};

class Convolve final : public Operation {
 public:
  Convolve(int x, int form, const ConvShape& shape, const ConvWeights& weights, int residual, Isa isa)
      : Operation(residual < 0 ? std::vector<int>{x} : std::vector<int>{x, residual}),
        form_(form),
        shape_(shape),
        layer_(Convolution::make(shape, weights, isa)) {}

  ImageSize size(const std::vector<ImageSize>& inputs) const override {
    const ImageSize& x = inputs[0];
    const ImageSize result = {shape_.out_channels, shape_.out_height(x.height), shape_.out_width(x.width)};
    if (x.channels != shape_.in_channels || x.height + shape_.pads.top + shape_.pads.bottom < 1 ||
        result.height < 1 || result.width < 1) {
      throw std::invalid_argument("a convolution of " + std::to_string(shape_.in_channels) + " channels, kernel " +
                                  std::to_string(shape_.kernel_h) + "x" + std::to_string(shape_.kernel_w) +
                                  ", of an image of " + text(x));
    }
    if (inputs.size() > 1 && (inputs[1].channels != result.channels || inputs[1].height != result.height ||
                              inputs[1].width != result.width)) {
      throw std::invalid_argument("a sum of images of " + text(result) + " and " + text(inputs[1]));
    }
    return result;
  }

  void set_finish(const Finish& wanted) override {
    finish = wanted;
    finish.has_residual = inputs.size() > 1;
    finish.scaled = finish.targets == 1 && !finish.has_value && !finish.has_residual;
    layer_->set_finish(finish);
  }

  std::int64_t parts(const Frame& frame, std::int64_t wanted) const override {
    return layer_->parts(call(frame), wanted);
  }

  void run(const Frame& frame, std::int64_t part, std::int64_t parts) const override {
    layer_->run(call(frame), part, parts);
  }

 private:
  ConvCall call(const Frame& frame) const {
    ConvCall result{};
    result.images = frame.images;
    result.layout = frame.placed(inputs[0]).layout[form_];
    result.input = frame.codes(inputs[0], form_);
    for (int t = 0; t < finish.targets; ++t) result.code[t] = frame.target(output, t);
    if (finish.has_value) result.value = frame.floats(output);
    if (finish.has_residual) result.residual = frame.floats(inputs[1]);
    return result;
  }

  int form_;
  ConvShape shape_;
  std::unique_ptr<Convolution> layer_;
};

class Add final : public Operation {
 public:
  Add(int a, int b) : Operation({a, b}) {}

  ImageSize size(const std::vector<ImageSize>& inputs) const override {
    const ImageSize &a = inputs[0], &b = inputs[1];
    if (a.channels != b.channels || a.height != b.height || a.width != b.width) {
      throw std::invalid_argument("a sum of images of " + text(a) + " and " + text(b));
    }
    return a;
  }

  void run(const Frame& frame, std::int64_t part, std::int64_t parts) const override {
    const ImageSize& size = frame.placed(output).size;
    const std::int64_t count = size.width * size.channels;
    const float *a = frame.floats(inputs[0]), *b = frame.floats(inputs[1]);
    std::vector<float> row(count);
    for_rows(frame, output, part, parts, [&](std::int64_t image, std::int64_t y) {
      const std::int64_t at = (image * size.height + y) * count;
      for (std::int64_t k = 0; k < count; ++k) row[k] = a[at + k] + b[at + k];
      frame.write_row(output, image, y, row.data(), finish);
    });
  }
};

class Bound final : public Operation {
 public:
  explicit Bound(int x) : Operation({x}) {}

  ImageSize size(const std::vector<ImageSize>& inputs) const override { return inputs[0]; }

  void run(const Frame& frame, std::int64_t part, std::int64_t parts) const override {
    const ImageSize& size = frame.placed(output).size;
    const float* x = frame.floats(inputs[0]);
    for_rows(frame, output, part, parts, [&](std::int64_t image, std::int64_t y) {
      frame.write_row(output, image, y, x + (image * size.height + y) * size.width * size.channels, finish);
    });
  }
};

class Concatenate final : public Operation {
 public:
  explicit Concatenate(const std::vector<int>& values) : Operation(values) {}

  ImageSize size(const std::vector<ImageSize>& inputs) const override {
    ImageSize result = inputs[0];
    result.channels = 0;
    for (const ImageSize& x : inputs) {
      if (x.height != result.height || x.width != result.width) {
        throw std::invalid_argument("a concatenation of images of " + text(inputs[0]) + " and " + text(x));
      }
      result.channels += x.channels;
    }
    return result;
  }

  void run(const Frame& frame, std::int64_t part, std::int64_t parts) const override {
    const ImageSize& size = frame.placed(output).size;
    std::vector<float> row(size.width * size.channels);
    for_rows(frame, output, part, parts, [&](std::int64_t image, std::int64_t y) {
      float* to = row.data();
      for (std::int64_t x = 0; x < size.width; ++x) {
        for (const int value : inputs) {
          const std::int64_t channels = frame.placed(value).size.channels;
          const float* from = frame.floats(value) + ((image * size.height + y) * size.width + x) * channels;
          to = std::copy_n(from, channels, to);
        }
      }
      frame.write_row(output, image, y, row.data(), finish);
    });
  }
};

class Flatten final : public Operation {
 public:
  explicit Flatten(int x) : Operation({x}) {}

  ImageSize size(const std::vector<ImageSize>& inputs) const override {
    return {inputs[0].channels * inputs[0].height * inputs[0].width, 1, 1};
  }

  void run(const Frame& frame, std::int64_t part, std::int64_t parts) const override {
    const ImageSize& size = frame.placed(inputs[0]).size;
    const std::int64_t pixels = size.height * size.width;
    std::vector<float> row(pixels * size.channels);
    for_rows(frame, output, part, parts, [&](std::int64_t image, std::int64_t y) {
      const float* from = frame.floats(inputs[0]) + image * pixels * size.channels;
      for (std::int64_t p = 0; p < pixels; ++p) {
        for (std::int64_t c = 0; c < size.channels; ++c) row[c * pixels + p] = from[p * size.channels + c];
      }
      frame.write_row(output, image, y, row.data(), finish);
    });
  }
};

class Output final : public Operation {
 public:
  explicit Output(int x) : Operation({x}) { output = -1; }

  ImageSize size(const std::vector<ImageSize>& inputs) const override { return inputs[0]; }

  void run(const Frame& frame, std::int64_t, std::int64_t) const override {
    if (frame.output_value == inputs[0]) return;  // it is there already
    const ImageSize& size = frame.placed(inputs[0]).size;
    const std::int64_t pixels = size.height * size.width;
    const float* from = frame.floats(inputs[0]);
    for (std::int64_t image = 0; image < frame.images; ++image) {
      for (std::int64_t c = 0; c < size.channels; ++c) {
        for (std::int64_t p = 0; p < pixels; ++p) {
          frame.output[(image * size.channels + c) * pixels + p] = from[(image * pixels + p) * size.channels + c];
        }
      }
    }
  }
};

}  // namespace

std::unique_ptr<Operation> make_input(std::int64_t channels) { return std::make_unique<Input>(channels); }

std::unique_ptr<Operation> make_convolution(int x, int form, const ConvShape& shape, const ConvWeights& weights,
                                            int residual, Isa isa) {
  return std::make_unique<Convolve>(x, form, shape, weights, residual, isa);
}

std::unique_ptr<Operation> make_add(int a, int b) { return std::make_unique<Add>(a, b); }
std::unique_ptr<Operation> make_bound(int x) { return std::make_unique<Bound>(x); }

std::unique_ptr<Operation> make_concatenation(const std::vector<int>& values) {
  return std::make_unique<Concatenate>(values);
}

std::unique_ptr<Operation> make_flattening(int x) { return std::make_unique<Flatten>(x); }
std::unique_ptr<Operation> make_output(int x) { return std::make_unique<Output>(x); }

}  // namespace eqnet::program
