// eqnet_program(x, y): a whole network, which is built when it is first called.
#include "call.h"
#include "eqnet/serialized.h"

namespace {

using namespace eqnet;

// Initialized by one thread while others wait; if that throws, the next call tries again.
const SerializedProgram& model() {
  static const SerializedProgram made = read_program(eqnet_model, tvm::model_bytes(), isa());
  return made;
}

bool is_image(const DLTensor& tensor) { return tensor.ndim == 4; }

void run(const tvm::Arguments& arguments) {
  const DLTensor &x = arguments.tensor(0), &y = arguments.tensor(1);
  for (const DLTensor* tensor : {&x, &y}) {
    if (!tvm::is_type(*tensor, kDLFloat, 32) || (tensor->ndim != 2 && tensor->ndim != 4)) {
      throw std::invalid_argument("expected float32 of 2 or 4 dimensions; found " + tvm::shape_text(*tensor));
    }
  }
  const SerializedProgram& network = model();
  const std::int64_t height = is_image(x) ? x.shape[2] : 1, width = is_image(x) ? x.shape[3] : 1;
  if (x.shape[1] != network.in_channels) {
    throw std::invalid_argument("expected an input of " + std::to_string(network.in_channels) + " channels; found " +
                                tvm::shape_text(x));
  }
  const ImageSize size = network.program->result_size(height, width);
  const bool fits = x.shape[0] == y.shape[0] && size.channels == y.shape[1] &&
                    size.height == (is_image(y) ? y.shape[2] : 1) && size.width == (is_image(y) ? y.shape[3] : 1);
  if (!fits) {
    throw std::invalid_argument("inputs " + tvm::shape_text(x) + " do not give results " + tvm::shape_text(y));
  }
  network.program->run(static_cast<const float*>(tvm::elements(x)), x.shape[0], height, width,
                       static_cast<float*>(tvm::elements(y)), tvm::threads());
}

}  // namespace

EQNET_TVM_FUNCTION(eqnet_program)(void*, const TVMFFIAny* values, std::int32_t count, TVMFFIAny* result) {
  return eqnet::tvm::call(values, count, result, run);
}
