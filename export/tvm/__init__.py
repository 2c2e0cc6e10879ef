"""One shared library that TVM's runtime runs."""
