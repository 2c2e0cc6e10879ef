// eqnet_linear(x, name, y): the packed linear layer of that name.
#include "call.h"
#include "eqnet/serialized.h"

namespace {

using namespace eqnet;

// Initialized by one thread while others wait; if that throws, the next call tries again.
const LinearLayers& layers() {
  static const LinearLayers made(eqnet_model, tvm::model_bytes());
  return made;
}

Element element(const DLTensor& tensor) {
  if (tvm::is_type(tensor, kDLFloat, 32)) return Element::kFloat32;
  if (tvm::is_type(tensor, kDLBfloat, 16)) return Element::kBfloat16;
  throw std::invalid_argument("expected float32 or bfloat16");
}

void run(const tvm::Arguments& arguments) {
  const DLTensor &x = arguments.tensor(0), &y = arguments.tensor(2);
  LinearLayer& layer = layers().at(arguments.text(1));
  const Element type = element(x);
  bool fits = x.ndim > 0 && x.ndim == y.ndim && type == element(y) && x.shape[x.ndim - 1] == layer.inputs() &&
              y.shape[y.ndim - 1] == layer.outputs();
  std::int64_t rows = 1;
  for (std::int32_t i = 0; fits && i + 1 < x.ndim; ++i) {
    fits = x.shape[i] == y.shape[i];
    rows *= x.shape[i];
  }
  if (!fits) {
    throw std::invalid_argument("layer '" + std::string(arguments.text(1)) + "' takes [..., " +
                                std::to_string(layer.inputs()) + "] to [..., " + std::to_string(layer.outputs()) +
                                "]; found " + tvm::shape_text(x) + " and " + tvm::shape_text(y));
  }
  layer.run(tvm::elements(x), tvm::elements(y), type, rows, tvm::threads());
}

}  // namespace

EQNET_TVM_FUNCTION(eqnet_linear)(void*, const TVMFFIAny* values, std::int32_t count, TVMFFIAny* result) {
  return eqnet::tvm::call(values, count, result, run);
}
