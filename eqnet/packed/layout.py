"""What the parts of a packed matrix have to be, whatever holds them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eqnet.errors import InputError
from eqnet.formats import Format

PLANES = (8, 4, 2, 1)
"""Widths of the planes into which codes are split, widest first."""

MAX_SIZE = 2**31 - 1
"""Most rows and most columns; nothing else bounds them if the matrix is empty."""

SCALES = ("float16", "bfloat16", "float32")
"""Types of scales."""

SIZES = {
    "complex64": 8,
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
}
"""Bytes of an element, by PyTorch's names of types."""


@dataclass(frozen=True)
class Spec:
    """What is known of a tensor without its data; the type is one of ``SIZES``."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * SIZES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


def plane_bytes(count: int, bits: int) -> int:
    """Bytes of ``count`` codes of ``bits`` bits.

    >>> plane_bytes(9, 3)  # 2-bit plane: 18 bits in 3 bytes; 1-bit plane: 9 bits in 2 bytes
    5

    Raises:
        InputError: there are no such codes.
    """
    if count < 0 or not 1 <= bits <= 8:
        raise InputError(f"{count} codes of {bits} bits were asked for; expected 0 or more, of 1 to 8 bits")
    return sum(-(-count * plane // 8) for plane in PLANES if bits & plane)


def check_parts(fmt: Format, rows: int, cols: int, codes: Spec, scale: Spec, zero_point: Spec | None) -> None:
    """Raises InputError unless these are the parts of a [rows, cols] matrix in a format."""
    if not (0 <= rows <= MAX_SIZE and 0 <= cols <= MAX_SIZE):
        raise InputError(f"a matrix of {rows} rows and {cols} columns; expected 0 to {MAX_SIZE} of each")
    _expect("scale", scale, fmt.scale_shape(rows, cols), SCALES)
    _expect("codes", codes, (plane_bytes(rows * cols, fmt.bits),), ("uint8",))
    if (zero_point is None) != fmt.symmetric:
        raise InputError(f"format {fmt} has {'no' if fmt.symmetric else 'a'} zero point")
    if zero_point is not None:
        _expect("zero_point", zero_point, (plane_bytes(math.prod(scale.shape), fmt.bits),), ("uint8",))


def _expect(name: str, part: Spec, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> None:
    if part.shape != shape or part.dtype not in dtypes:
        raise InputError(f"{name}: expected {' or '.join(dtypes)} of shape {shape}; found {part}")
