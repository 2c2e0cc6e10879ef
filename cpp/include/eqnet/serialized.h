// Models as bytes: whole programs, and packed linear layers by name.
//
// The bytes are a header and a body of numbers of 4 bytes each, int32 or float32, little-endian, and of arrays, each
// filled up with zeros to a multiple of 4 bytes:
//
//     "eqnetbin" | version | CRC-32 of all that follows
//     kind: 1 program, 2 linear layers
//     number of weights | weights
//     program:         channels of the input | number of operations | operations | value that is the result
//     linear layers:   number of layers | layers
//
//     weight           rows | columns | columns of a group, 0: all | bits | symmetric | a scale for each row
//                      | type of the scales: 0 float16, 1 bfloat16, 2 float32
//                      | planes of the codes | scales | planes of the zero points, unless symmetric
//     operation        its number, then its fields
//       1 convolution    value | weight | channels in | out | groups | kernel | stride | dilation (height, width each)
//                        | padding (top, left, bottom, right) | input scale | input zero | input levels
//                        | residual value or -1 | bounds (least, greatest) | bias, float32 [rows]
//       2 sum            value | value | bounds
//       3 activation     value | bounds
//       4 pooling        value | 0 largest, 1 mean | of the whole image | kernel | stride | padding | counts padding
//                        | bounds
//       5 concatenation  number of values | values
//       6 flattening     value
//     layer            bytes of its name | name | weight | compute: 0 float, 1 int8, 2 static
//                      | input scale | zero point | least | greatest code (of static inputs)
//                      | has a bias | bias, float32 [rows]
//
// Planes are those of eqnet/packed/planes.py: codes of b bits take b bits. Values are numbered as Program does it: 0 is
// the input, and every operation makes the next one. Weights that several layers share are there once.
//
// Everything is checked. What is damaged, or of another version, throws std::invalid_argument that names the place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "eqnet/linear.h"
#include "eqnet/program.h"

namespace eqnet {

constexpr char kSerializedMagic[] = "eqnetbin";
constexpr std::int32_t kSerializedVersion = 1;

struct SerializedProgram {
  std::unique_ptr<Program> program;
  std::int64_t in_channels;
};

// The program, on the best kernels that are not above `isa`. The bytes are not needed afterwards.
SerializedProgram read_program(const std::uint8_t* data, std::size_t bytes, Isa isa);

// One packed linear layer. Its weight is put into the order of the kernels when it is first needed.
class LinearLayer {
 public:
  virtual ~LinearLayer() = default;
  virtual std::int64_t inputs() const = 0;
  virtual std::int64_t outputs() const = 0;
  // x: [rows, inputs]; y: [rows, outputs]; both of `element`. Any number of threads may call at once.
  virtual void run(const void* x, void* y, Element element, std::int64_t rows, int threads) = 0;
};

class LinearLayers {
 public:
  // The bytes must stay where they are.
  LinearLayers(const std::uint8_t* data, std::size_t bytes);

  // Throws std::invalid_argument if there is none of this name.
  LinearLayer& at(std::string_view name) const;

 private:
  std::map<std::string, std::unique_ptr<LinearLayer>, std::less<>> layers_;
};

}  // namespace eqnet
