"""How fast packed models and their kernels are on this machine."""
