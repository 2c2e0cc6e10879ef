// Packed tables as Python functions of raw addresses. Callers (eqnet/ops/embedding.py) check types and sizes.
#include "eqnet/embedding.h"

#include <nanobind/nanobind.h>

#include <cstdint>

#include "bindings.h"

namespace nb = nanobind;

void bind_embedding(nb::module_& m) {
  m.def(
      "gather_rows",
      [](std::int64_t rows, std::int64_t cols, std::int64_t group_size, int bits, std::uintptr_t codes,
         std::uintptr_t scale, int scale_type, bool scale_per_row, std::uintptr_t zero_point, std::uintptr_t indices,
         std::int64_t count, std::uintptr_t out, int threads) {
        const eqnet::Table table{rows,
                                 cols,
                                 group_size,
                                 bits,
                                 reinterpret_cast<const std::uint8_t*>(codes),
                                 reinterpret_cast<const void*>(scale),
                                 static_cast<eqnet::ScaleType>(scale_type),
                                 scale_per_row,
                                 reinterpret_cast<const std::uint8_t*>(zero_point)};
        const auto* which = reinterpret_cast<const std::int64_t*>(indices);
        for (std::int64_t i = 0; i < count; ++i) {
          if (which[i] < 0 || which[i] >= rows) return false;
        }
        eqnet::gather_rows(table, which, count, reinterpret_cast<float*>(out), threads);
        return true;
      },
      nb::call_guard<nb::gil_scoped_release>());
}
