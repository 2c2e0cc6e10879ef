"""Running artifacts of every form through one interface; eqnet's own run on integers from first layer to last."""

from __future__ import annotations

from eqnet.runtime.opening import open as open
from eqnet.runtime.program import IntegerProgram as IntegerProgram
from eqnet.runtime.program import compile as compile
from eqnet.runtime.runner import InputSpec as InputSpec
from eqnet.runtime.runner import Runner as Runner
from eqnet.runtime.unsupported import UnsupportedError as UnsupportedError

__all__ = ["InputSpec", "IntegerProgram", "Runner", "UnsupportedError", "compile", "open"]
