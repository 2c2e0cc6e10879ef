// Codes of weights as Python functions of raw addresses. Callers (eqnet/lm/methods/) check types and sizes.
#include "eqnet/weight_codes.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>

#include <cstdint>
#include <utility>

#include "bindings.h"

namespace nb = nanobind;

void bind_weight_codes(nb::module_& m) {
  m.def(
      "weight_codes",
      [](std::uintptr_t weight, std::int64_t rows, std::int64_t cols, int bits, bool symmetric, std::int64_t group_size,
         int scale_type, bool searched, std::uintptr_t importance, std::uintptr_t factor, std::uintptr_t order,
         std::uintptr_t codes, std::uintptr_t scale, std::uintptr_t zero_point, std::uintptr_t error,
         std::uintptr_t forms, int threads) {
        const eqnet::WeightFormat format{bits, symmetric, group_size, static_cast<eqnet::ScaleType>(scale_type)};
        const eqnet::Rounding rounding{searched, reinterpret_cast<const float*>(importance),
                                       reinterpret_cast<const float*>(factor),
                                       reinterpret_cast<const std::int64_t*>(order)};
        const eqnet::Largest largest = eqnet::weight_codes(
            reinterpret_cast<const float*>(weight), rows, cols, format, rounding,
            reinterpret_cast<std::uint8_t*>(codes), reinterpret_cast<float*>(scale),
            reinterpret_cast<float*>(zero_point), reinterpret_cast<float*>(error),
            reinterpret_cast<double*>(forms), threads);
        return std::make_pair(largest.scale, largest.weight);
      },
      nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "quadratic_forms",
      [](std::uintptr_t x, std::int64_t rows, std::int64_t cols, std::uintptr_t matrix, std::uintptr_t forms,
         int threads) {
        eqnet::quadratic_forms(reinterpret_cast<const float*>(x), rows, cols, reinterpret_cast<const float*>(matrix),
                               reinterpret_cast<double*>(forms), threads);
      },
      nb::call_guard<nb::gil_scoped_release>());
}
