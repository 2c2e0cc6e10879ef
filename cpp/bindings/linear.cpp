// Packed linear layers as Python functions of raw addresses. Callers (eqnet/ops/linear.py) check types and sizes.
#include "eqnet/linear.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>

#include <cstdint>
#include <utility>

#include "bindings.h"

namespace nb = nanobind;

namespace {

using eqnet::PanelShape;
using eqnet::ScaleType;

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

void bind_linear(nb::module_& m) {
  m.def("panel_sizes", [](std::int64_t rows, std::int64_t cols, std::int64_t group_size, int bits) {
    const PanelShape shape{rows, cols, group_size, bits};
    return std::make_pair(shape.code_bytes(), shape.scale_count());
  });

  m.def(
      "fill_panels",
      [](std::int64_t rows, std::int64_t cols, std::int64_t group_size, int bits, std::uintptr_t codes,
         std::uintptr_t scale, int scale_bytes, bool scale_per_row, std::uintptr_t zero_point, std::uintptr_t out_codes,
         std::uintptr_t out_scales, std::uintptr_t out_zeros, int threads) {
        eqnet::fill_panels({rows, cols, group_size, bits}, at<const std::uint8_t>(codes), at<const void>(scale),
                           scale_bytes, scale_per_row, at<const std::uint8_t>(zero_point), at<std::uint8_t>(out_codes),
                           at<void>(out_scales), at<std::uint8_t>(out_zeros), threads);
      },
      nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "linear",
      [](std::int64_t rows, std::int64_t cols, std::int64_t group_size, int bits, std::uintptr_t codes,
         std::uintptr_t scales, int scale_type, std::uintptr_t zeros, std::uintptr_t x, std::uintptr_t y, int element,
         std::int64_t samples, std::uintptr_t bias, int compute, float input_scale, std::int32_t input_zero_point,
         std::int32_t qmin, std::int32_t qmax, std::uintptr_t correction, int threads) {
        const eqnet::Panels weights{{rows, cols, group_size, bits},
                                    at<const std::uint8_t>(codes),
                                    at<const void>(scales),
                                    static_cast<ScaleType>(scale_type),
                                    at<const std::uint8_t>(zeros)};
        const eqnet::StaticInput input{input_scale, input_zero_point, qmin, qmax};
        eqnet::linear(weights, at<const void>(x), at<void>(y), static_cast<eqnet::Element>(element), samples,
                      at<const float>(bias), static_cast<eqnet::Compute>(compute), &input, at<const float>(correction),
                      threads);
      },
      nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "dequantize_panels",
      [](std::int64_t rows, std::int64_t cols, std::int64_t group_size, int bits, std::uintptr_t codes,
         std::uintptr_t scales, int scale_type, std::uintptr_t zeros, std::uintptr_t out, int threads) {
        const eqnet::Panels weights{{rows, cols, group_size, bits},
                                    at<const std::uint8_t>(codes),
                                    at<const void>(scales),
                                    static_cast<ScaleType>(scale_type),
                                    at<const std::uint8_t>(zeros)};
        eqnet::dequantize_panels(weights, at<float>(out), threads);
      },
      nb::call_guard<nb::gil_scoped_release>());
}
