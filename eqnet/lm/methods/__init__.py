"""From a weight in floating point to codes, one file an idea; a new method is a class and a row of the table."""

from eqnet.lm.methods.base import Method
from eqnet.lm.methods.compensation import ErrorCompensation
from eqnet.lm.methods.nearest import RangeSearch, RoundToNearest

METHODS: dict[str, Method] = {method.name: method for method in (RoundToNearest(), RangeSearch(), ErrorCompensation())}
"""What ``--method`` names."""

__all__ = ["METHODS", "ErrorCompensation", "Method", "RangeSearch", "RoundToNearest"]
