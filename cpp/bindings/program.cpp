// Programs as a Python class. Callers (eqnet/runtime/) keep the memory behind the addresses alive and of the right size.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.h"
#include "eqnet/program.h"
#include "eqnet/serialized.h"

namespace nb = nanobind;

namespace {

using Pair = std::pair<std::int64_t, std::int64_t>;
using Padding = std::array<std::int64_t, 4>;  // top, left, bottom, right

eqnet::Pads pads(const Padding& padding) { return {padding[0], padding[1], padding[2], padding[3]}; }

int convolution(eqnet::Program& program, int x, std::uintptr_t weight, std::uintptr_t scale, std::int64_t group_size,
                std::uintptr_t bias, Pair channels, std::int64_t groups, Pair kernel, Pair stride, Pair dilation,
                const Padding& padding, float input_scale, std::int32_t input_zero, std::int32_t levels, int residual,
                std::pair<float, float> bounds) {
  const eqnet::ConvShape shape{channels.first, channels.second, groups,         kernel.first,    kernel.second,
                               stride.first,   stride.second,   dilation.first, dilation.second, pads(padding)};
  const eqnet::ConvWeights weights{reinterpret_cast<const std::int16_t*>(weight),
                                   reinterpret_cast<const float*>(scale),
                                   group_size,
                                   reinterpret_cast<const float*>(bias),
                                   input_scale,
                                   input_zero};
  return program.convolution(x, shape, weights, levels, residual, {bounds.first, bounds.second});
}

int pool(eqnet::Program& program, int x, bool maximum, bool whole_image, Pair kernel, Pair stride,
         const Padding& padding, bool count_padding, std::pair<float, float> bounds) {
  const eqnet::PoolShape shape{maximum ? eqnet::PoolKind::kMax : eqnet::PoolKind::kMean,
                               whole_image,
                               kernel.first,
                               kernel.second,
                               stride.first,
                               stride.second,
                               pads(padding),
                               count_padding};
  return program.pool(x, shape, {bounds.first, bounds.second});
}

std::tuple<std::int64_t, std::int64_t, std::int64_t> result_size(eqnet::Program& program, std::int64_t height,
                                                                 std::int64_t width) {
  const eqnet::ImageSize size = program.result_size(height, width);
  return {size.channels, size.height, size.width};
}

// The instruction set of a name, or the processor's best one if there is none.
eqnet::Isa named(const std::string& name) {
  if (name.empty()) return eqnet::isa();
  for (const eqnet::Isa known :
       {eqnet::Isa::kPortable, eqnet::Isa::kNeon, eqnet::Isa::kAvx2, eqnet::Isa::kAvx512Vnni}) {
    if (name == eqnet::isa_name(known) && known <= eqnet::isa()) return known;
  }
  throw std::invalid_argument("no instruction set '" + name + "' on this processor");
}

}  // namespace

void bind_program(nb::module_& m) {
  nb::class_<eqnet::Program>(m, "Program")
      .def(
          "__init__",
          [](eqnet::Program* self, std::int64_t in_channels, const std::string& isa) {
            new (self) eqnet::Program(in_channels, named(isa));
          },
          nb::arg("in_channels"), nb::arg("isa") = "")
      .def("convolution", convolution, nb::arg("x"), nb::kw_only(), nb::arg("weight"), nb::arg("scale"),
           nb::arg("group_size"), nb::arg("bias"), nb::arg("channels"), nb::arg("groups"), nb::arg("kernel"),
           nb::arg("stride"), nb::arg("dilation"), nb::arg("padding"), nb::arg("input_scale"), nb::arg("input_zero"),
           nb::arg("levels"), nb::arg("residual"), nb::arg("bounds"))
      .def(
          "add",
          [](eqnet::Program& program, int a, int b, std::pair<float, float> bounds) {
            return program.add(a, b, {bounds.first, bounds.second});
          },
          nb::arg("a"), nb::arg("b"), nb::arg("bounds"))
      .def(
          "bound",
          [](eqnet::Program& program, int x, std::pair<float, float> bounds) {
            return program.bound(x, {bounds.first, bounds.second});
          },
          nb::arg("x"), nb::arg("bounds"))
      .def("pool", pool, nb::arg("x"), nb::kw_only(), nb::arg("maximum"), nb::arg("whole_image"), nb::arg("kernel"),
           nb::arg("stride"), nb::arg("padding"), nb::arg("count_padding"), nb::arg("bounds"))
      .def("concatenate", &eqnet::Program::concatenate, nb::arg("values"))
      .def("flatten", &eqnet::Program::flatten, nb::arg("x"))
      .def("finish", &eqnet::Program::finish, nb::arg("result"))
      .def("result_size", result_size, nb::arg("height"), nb::arg("width"))
      .def("arena_bytes", &eqnet::Program::arena_bytes, nb::arg("height"), nb::arg("width"))
      .def(
          "run",
          [](eqnet::Program& program, std::uintptr_t x, std::int64_t images, std::int64_t height, std::int64_t width,
             std::uintptr_t y, int threads) {
            program.run(reinterpret_cast<const float*>(x), images, height, width, reinterpret_cast<float*>(y), threads);
          },
          nb::arg("x"), nb::arg("images"), nb::arg("height"), nb::arg("width"), nb::arg("y"), nb::arg("threads"),
          nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "read_program",
      [](nb::bytes data, const std::string& isa) {
        return eqnet::read_program(static_cast<const std::uint8_t*>(data.data()), data.size(), named(isa)).program;
      },
      nb::arg("data"), nb::arg("isa") = "");
}
