"""Libraries whose work eqnet's own C++ kernels do; TVM calls them."""
