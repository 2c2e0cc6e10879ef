"""Codes in the narrowest type of ONNX that holds them.

Bits 2 take INT2 or UINT2 (opset 25), 3 and 4 INT4 or UINT4 (opset 21), 5 to 8 INT8 or UINT8; signed if symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from eqnet.formats import Format

OLDEST_OPSET = 21
"""That of blocked DequantizeLinear, and of types of 4 bits."""


@dataclass(frozen=True)
class Storage:
    """A pair of types for codes.

    Attributes:
        bits: of one code.
        opset: the first one that has them.
        signed: type of symmetric codes.
        unsigned: type of asymmetric ones.
    """

    bits: int
    opset: int
    signed: Any
    unsigned: Any

    def numpy_type(self, fmt: Format) -> Any:
        """Of codes of ``fmt``."""
        return self.signed if fmt.symmetric else self.unsigned


_STORAGE = (
    Storage(2, 25, ml_dtypes.int2, ml_dtypes.uint2),
    Storage(4, OLDEST_OPSET, ml_dtypes.int4, ml_dtypes.uint4),
    Storage(8, OLDEST_OPSET, np.int8, np.uint8),
)


def storage(fmt: Format) -> Storage:
    """The narrowest one that holds codes of ``fmt``."""
    return next(row for row in _STORAGE if row.bits >= fmt.bits)


def tensor(integers: np.ndarray[Any, Any], fmt: Format) -> ir.TensorProtocol:
    """``integers``, codes or zero points of ``fmt``, in their type."""
    array = integers.astype(np.int8 if fmt.symmetric else np.uint8, order="C")
    return ir.Tensor(array.astype(storage(fmt).numpy_type(fmt)))


def tensor_type(fmt: Format) -> ir.DataType:
    """Of what ``tensor`` makes."""
    return ir.DataType.from_numpy(np.dtype(storage(fmt).numpy_type(fmt)))
