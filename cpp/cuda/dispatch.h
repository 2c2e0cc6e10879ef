// From a width at run time to kernels that are compiled for it.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

namespace eqnet::cuda {

// Calls `with` with std::integral_constant<int, bits>, 2 to 8.
template <typename With>
void for_bits(int bits, With with) {
  switch (bits) {
    case 2:
      return with(std::integral_constant<int, 2>());
    case 3:
      return with(std::integral_constant<int, 3>());
    case 4:
      return with(std::integral_constant<int, 4>());
    case 5:
      return with(std::integral_constant<int, 5>());
    case 6:
      return with(std::integral_constant<int, 6>());
    case 7:
      return with(std::integral_constant<int, 7>());
    case 8:
      return with(std::integral_constant<int, 8>());
    default:
      throw std::invalid_argument("no kernel is compiled for " + std::to_string(bits) + " bits");
  }
}

}  // namespace eqnet::cuda
