"""Types of ggml that hold a packed weight exactly; one row a type, narrowest first.

ggml's own quantization rounds to these types. Here nothing is rounded: a type takes a weight if each of its values is
one of the type's, bit for bit, and of those that do the narrowest is written.

    types      a value is              columns that share    takes
    Q4_0 …     d · (q − half)          d: 32                 steps from −half to half − 1
    Q4_1, Q5_1 d · q + m               d, m: 32              zero points whose product with d is a float16
    Q2_K …     d · s · q − dₘ · sₘ     d, dₘ: 256; s: 16, 32 rows whose 256 columns share a scale: s = 1, dₘ = d
    Q3_K, Q6_K d · s · (q − half)      d: 256; s: 16         the same, with steps from −half to half − 1
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eqnet.export.gguf.grid import BLOCK, Array, Grid

SUPER = 256
"""Columns of a block of the K types."""


@dataclass(frozen=True)
class GgmlType:
    """A type of ggml.

    Attributes:
        name: ggml's.
        block: columns of a block.
        nbytes: of a block.
        holds: whether it has every value of a grid.
        encode: the blocks of a grid that it holds, uint8 [rows, bytes of a row].
    """

    name: str
    block: int
    nbytes: int
    holds: Callable[[Grid], bool]
    encode: Callable[[Grid], Array]

    @property
    def bpw(self) -> float:
        """Bits per weight, with scales."""
        return 8 * self.nbytes / self.block


def type_for(grid: Grid) -> GgmlType | None:
    """The narrowest type that holds ``grid``; None if there is none."""
    return next((row for row in TYPES if row.holds(grid)), None)


def _within(half: int) -> Callable[[Grid], bool]:
    """Whether steps are from −half to half − 1."""
    return lambda grid: not grid.steps.size or bool(-half <= grid.steps.min() and grid.steps.max() < half)


def _minimum(grid: Grid) -> Array:
    """The value of code 0, float32 [rows, cols / 32]."""
    minimum: Array = -grid.zero.astype(np.float32) * grid.scale.astype(np.float32)
    return minimum


def _with_minimum(bits: int) -> Callable[[Grid], bool]:
    def holds(grid: Grid) -> bool:
        minimum = _minimum(grid)
        with np.errstate(over="ignore"):
            exact = minimum.astype(np.float16).astype(np.float32) == minimum
        return _codes_below(grid, 1 << bits) and bool(exact.all())

    return holds


def _codes_below(grid: Grid, end: int) -> bool:
    return not grid.steps.size or bool(grid.codes.max() < end)


def _wide_steps(half: int) -> Callable[[Grid], bool]:
    within = _within(half)
    return lambda grid: grid.wide(SUPER) and within(grid)


def _wide_codes(bits: int, most: int) -> Callable[[Grid], bool]:
    """Whether ``bits`` hold the codes, and a number up to ``most`` the zero points."""
    return lambda grid: grid.wide(SUPER) and _codes_below(grid, 1 << bits) and bool(grid.zero.max(initial=0) <= most)


def _folded(values: Array, outer: int, pieces: int, bits: int) -> Array:
    """Several values a byte: those that are ``size / outer / pieces`` apart share one, the first in its low bits.

    Args:
        values: uint8 [blocks, size], each below 2^bits.
        outer: parts of a block that are folded by themselves.
        pieces: values of a byte.
        bits: of each.

    Returns:
        uint8 [blocks, size / pieces].
    """
    parts = values.reshape(len(values), outer, pieces, -1)
    shifts = (np.arange(pieces) * bits).astype(np.uint8)
    folded: Array = np.bitwise_or.reduce(parts << shifts[:, None], axis=2).reshape(len(values), -1)
    return folded


def _blocks(values: Array, size: int) -> Array:
    """Codes by block, uint8 [blocks, size]."""
    return values.astype(np.uint8).reshape(-1, size)


def _halves(values: Array) -> Array:
    """Float16 as bytes, a row for each."""
    return np.ascontiguousarray(values, np.float16).reshape(-1, 1).view(np.uint8)


def _rows(grid: Grid, *parts: Array) -> Array:
    """The parts of blocks one after another, and the blocks of a row."""
    return np.concatenate(parts, axis=1).reshape(len(grid.steps), -1)


def _q4_0(grid: Grid) -> Array:
    return _rows(grid, _halves(grid.scale), _folded(_blocks(grid.steps + 8, BLOCK), 1, 2, 4))


def _q5_0(grid: Grid) -> Array:
    return _rows(grid, _halves(grid.scale), *_five(_blocks(grid.steps + 16, BLOCK)))


def _q8_0(grid: Grid) -> Array:
    return _rows(grid, _halves(grid.scale), grid.steps.astype(np.int8).view(np.uint8).reshape(-1, BLOCK))


def _q4_1(grid: Grid) -> Array:
    return _rows(grid, _halves(grid.scale), _halves(_minimum(grid)), _folded(_blocks(grid.codes, BLOCK), 1, 2, 4))


def _q5_1(grid: Grid) -> Array:
    return _rows(grid, _halves(grid.scale), _halves(_minimum(grid)), *_five(_blocks(grid.codes, BLOCK)))


def _five(codes: Array) -> tuple[Array, Array]:
    """The fifth bits, one after another, and the lower four."""
    return _folded(codes >> 4, 4, 8, 1), _folded(codes & 15, 1, 2, 4)


def _scale(grid: Grid) -> Array:
    """One for each block of 256 columns, as bytes."""
    return _halves(grid.scale[:, :: SUPER // BLOCK])


def _repeated(value: int, count: int, scale: Array) -> Array:
    return np.full((len(scale), count), value, np.uint8)


def _q2_k(grid: Grid) -> Array:
    scale = _scale(grid)
    minima = np.repeat(_blocks(grid.zero, SUPER // BLOCK), 2, axis=1)  # of 16 columns
    return _rows(grid, 1 | minima << 4, _folded(_blocks(grid.codes, SUPER), 2, 4, 2), scale, scale)


def _q3_k(grid: Grid) -> Array:
    scale, codes = _scale(grid), _blocks(grid.steps + 4, SUPER)
    # 33 for each 16 columns, which stands for 1: four low bits for all of them, and then two high ones.
    ones = _repeated(0x11, 8, scale), _repeated(0xAA, 4, scale)
    return _rows(grid, _folded(codes >> 2, 1, 8, 1), _folded(codes & 3, 2, 4, 2), *ones, scale)


def _q4_k(grid: Grid) -> Array:
    scale = _scale(grid)
    return _rows(grid, scale, scale, _minima(grid), _folded(_blocks(grid.codes, SUPER), 4, 2, 4))


def _q5_k(grid: Grid) -> Array:
    scale, codes = _scale(grid), _blocks(grid.codes, SUPER)
    high, low = _folded(codes >> 4, 1, 8, 1), _folded(codes & 15, 4, 2, 4)
    return _rows(grid, scale, scale, _minima(grid), high, low)


def _minima(grid: Grid) -> Array:
    """Scales of 1 and the zero points, 6 bits each, uint8 [blocks, 12].

    The two high bits of the last four scales are above the first four, and those of the zero points likewise.
    """
    minima = _blocks(grid.zero, SUPER // BLOCK)
    first, last = minima[:, :4], minima[:, 4:]
    return np.concatenate([np.ones_like(first), first | last >> 4 << 6, 1 | (last & 15) << 4], axis=1)


def _q6_k(grid: Grid) -> Array:
    scale, codes = _scale(grid), _blocks(grid.steps + 32, SUPER)
    low, high = _folded(codes & 15, 2, 2, 4), _folded(codes >> 4, 2, 4, 2)
    return _rows(grid, low, high, _repeated(1, 16, scale), scale)


TYPES = (
    GgmlType("Q2_K", SUPER, 84, _wide_codes(2, 15), _q2_k),
    GgmlType("Q3_K", SUPER, 110, _wide_steps(4), _q3_k),
    GgmlType("Q4_0", BLOCK, 18, _within(8), _q4_0),
    GgmlType("Q4_K", SUPER, 144, _wide_codes(4, 63), _q4_k),
    GgmlType("Q4_1", BLOCK, 20, _with_minimum(4), _q4_1),
    GgmlType("Q5_0", BLOCK, 22, _within(16), _q5_0),
    GgmlType("Q5_K", SUPER, 176, _wide_codes(5, 63), _q5_k),
    GgmlType("Q5_1", BLOCK, 24, _with_minimum(5), _q5_1),
    GgmlType("Q6_K", SUPER, 210, _wide_steps(32), _q6_k),
    GgmlType("Q8_0", BLOCK, 34, _within(128), _q8_0),
)
"""Those of the same size in the order of their speed."""
