// The kernels as Python functions of raw addresses. Callers (eqnet/ops/) check devices, types and sizes.
#include <nanobind/nanobind.h>

#include <cstdint>

#include "bindings.h"
#include "eqnet/crc32.h"
#include "eqnet/fake_quantize.h"
#include "eqnet/isa.h"
#include "eqnet/range_search.h"

namespace nb = nanobind;

namespace {

const float* input(std::uintptr_t address) { return reinterpret_cast<const float*>(address); }
float* output(std::uintptr_t address) { return reinterpret_cast<float*>(address); }

}  // namespace

NB_MODULE(_kernels, m) {
  m.doc() = "eqnet's C++ kernels, bound to raw addresses of contiguous float32 memory.";

  m.def("isa", [] { return eqnet::isa_name(eqnet::isa()); });
  m.def(
      "crc32",
      [](std::uintptr_t data, std::int64_t size) {
        return eqnet::crc32(reinterpret_cast<const std::uint8_t*>(data), size);
      },
      nb::call_guard<nb::gil_scoped_release>());
  bind_decoder(m);
  bind_embedding(m);
  bind_linear(m);
  bind_program(m);
  bind_roofline(m);
  bind_weight_codes(m);

  m.def(
      "fake_quantize",
      [](std::uintptr_t x, std::uintptr_t scale, std::uintptr_t zero_point, std::uintptr_t y, std::int64_t rows,
         std::int64_t cols, std::int64_t group_size, float qmin, float qmax) {
        eqnet::fake_quantize(input(x), input(scale), input(zero_point), output(y), {rows, cols, group_size}, qmin,
                             qmax);
      },
      nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "fake_quantize_backward",
      [](std::uintptr_t grad_y, std::uintptr_t x, std::uintptr_t scale, std::uintptr_t zero_point,
         std::uintptr_t grad_x, std::uintptr_t grad_scale, std::uintptr_t grad_zero_point, std::int64_t rows,
         std::int64_t cols, std::int64_t group_size, float qmin, float qmax) {
        eqnet::fake_quantize_backward(input(grad_y), input(x), input(scale), input(zero_point), output(grad_x),
                                      output(grad_scale), output(grad_zero_point), {rows, cols, group_size}, qmin,
                                      qmax);
      },
      nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "range_search",
      [](std::uintptr_t x, std::uintptr_t count, std::uintptr_t scale, std::uintptr_t zero_point, std::int64_t rows,
         std::int64_t cols, std::int64_t group_size, float qmin, float qmax, float p) {
        eqnet::range_search(input(x), input(count), output(scale), output(zero_point), {rows, cols, group_size}, qmin,
                            qmax, p);
      },
      nb::call_guard<nb::gil_scoped_release>());
}
