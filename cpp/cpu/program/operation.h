// What programs are made of.
#pragma once

#include <memory>
#include <vector>

#include "eqnet/conv.h"
#include "eqnet/program.h"

namespace eqnet::program {

// One form of a value: codes with a scale, and with padding around them.
struct Form {
  InputCoding coding;
  Pads pads;
};

// A value, and in which forms it is wanted.
struct ValueInfo {
  Bounds bounds;            // that its activation keeps it in
  std::vector<Form> forms;  // at most kMaxTargets
  bool floats = false;      // also wanted in floating point

  Finish finish() const;
};

// Where the forms of a value are for images of one size.
struct Placed {
  ImageSize size;
  std::vector<CodeLayout> layout;          // of each form
  std::vector<std::int64_t> code_offset;   // bytes in the arena for one image; times the images for several
  std::int64_t float_offset = 0;
};

struct Plan {
  std::int64_t height, width;  // of the program's input
  std::vector<Placed> values;
  std::int64_t bytes = 0;      // of the arena for one image
};

// Some images on their way through the program.
struct Frame {
  const Plan* plan;
  const std::vector<ValueInfo>* values;
  std::uint8_t* arena;
  std::int64_t images;
  const float* input;
  float* output;      // null, or where the floating-point form of value `output_value` is instead of in the arena
  int output_value;
  Isa isa;            // of the kernels

  const Placed& placed(int value) const { return plan->values[value]; }
  float* floats(int value) const;
  std::uint8_t* codes(int value, int form) const;        // with the padding
  CodeTarget target(int value, int form) const;          // without
  // Writes `pixels` values of channels, [pixels, channels], in all forms of `value`; they are those of row `y` of an
  // image, from its first pixel on.
  void write_row(int value, std::int64_t image, std::int64_t y, const float* row, const Finish& finish) const;
};

class Operation {
 public:
  explicit Operation(std::vector<int> inputs) : inputs(std::move(inputs)) {}
  virtual ~Operation() = default;

  // Size of the result. Throws std::invalid_argument if the inputs do not fit.
  virtual ImageSize size(const std::vector<ImageSize>& inputs) const = 0;
  // Called once, when all readers are known.
  virtual void set_finish(const Finish& finish) { this->finish = finish; }
  virtual std::int64_t parts(const Frame& frame, std::int64_t wanted) const;
  virtual void run(const Frame& frame, std::int64_t part, std::int64_t parts) const = 0;

  std::vector<int> inputs;
  int output = 0;
  Finish finish{};
};

std::unique_ptr<Operation> make_input(std::int64_t channels);
std::unique_ptr<Operation> make_convolution(int x, int form, const ConvShape& shape, const ConvWeights& weights,
                                            int residual, Isa isa);
std::unique_ptr<Operation> make_add(int a, int b);
std::unique_ptr<Operation> make_bound(int x);
std::unique_ptr<Operation> make_pool(int x, const PoolShape& shape);
std::unique_ptr<Operation> make_concatenation(const std::vector<int>& values);
std::unique_ptr<Operation> make_flattening(int x);
// Writes value `x` to the frame's output.
std::unique_ptr<Operation> make_output(int x);

// Sizes and places of all values. Values that are never needed at the same time share memory.
Plan make_plan(const std::vector<std::unique_ptr<Operation>>& operations, const std::vector<ValueInfo>& values,
               std::int64_t height, std::int64_t width);

// Fills the padding of all forms of a value.
void fill_padding(const Frame& frame, int value);

}  // namespace eqnet::program
