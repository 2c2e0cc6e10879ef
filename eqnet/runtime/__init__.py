"""Whole networks on integers, from the first layer to the last, on a CPU."""

from __future__ import annotations

from eqnet.runtime.program import IntegerProgram as IntegerProgram
from eqnet.runtime.program import compile as compile
from eqnet.runtime.unsupported import UnsupportedError as UnsupportedError

__all__ = ["IntegerProgram", "UnsupportedError", "compile"]
