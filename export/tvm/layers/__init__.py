"""Packed layers of any kind as functions of TVM, for models that are no whole program on integers."""
