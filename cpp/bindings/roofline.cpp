// The loops of eqnet/roofline.h as Python functions. Callers (eqnet/bench/roofline.py) check sizes.
#include "eqnet/roofline.h"

#include <nanobind/nanobind.h>

#include <cstdint>

#include "bindings.h"

namespace nb = nanobind;

void bind_roofline(nb::module_& m) {
  m.def(
      "read_memory",
      [](std::uintptr_t memory, std::size_t bytes, int repeats, int threads) {
        eqnet::read_memory(reinterpret_cast<const void*>(memory), bytes, repeats, threads);
      },
      nb::call_guard<nb::gil_scoped_release>());
  m.def("multiply_int8", &eqnet::multiply_int8, nb::call_guard<nb::gil_scoped_release>());
  m.def("multiply_float", &eqnet::multiply_float, nb::call_guard<nb::gil_scoped_release>());
}
