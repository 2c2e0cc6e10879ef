"""Codes of 2 to 8 bits in exactly their bits, which no ONNX type has for 3, 5, 6 and 7, and how a graph unpacks them.

A code is cut into its low four bits and what is above them, its high part, and each part into fields of 4, 2 and 1
bits: 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1, 8 = 4 + 4. The fields of one kind are a matrix of bytes, a plane.
Its rows are as ONNX Runtime packs 4-bit codes, the first of two in the low half of a byte, with narrower fields laid
over each other, so that a row unpacks with shifts, masks and one concatenation. A row of eight codes a … h of 2 bits:

    in 4 bits each    0b0a  0d0c  0f0e  0h0g
    as stored         fbea  hdgc

Engines that compute what does not depend on the inputs once, as ONNX Runtime does when it opens a file, do the
unpacking then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from eqnet.export.onnx.registry import Operators, Site

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Field:
    """Some bits of every code.

    Attributes:
        start: the lowest of them.
        width: how many: 1, 2 or 4.
    """

    start: int
    width: int

    @property
    def pieces(self) -> int:
        """How many of them share four bits of a stored byte."""
        return 4 // self.width

    @property
    def mask(self) -> int:
        """Selects one piece of a stored byte."""
        return ((1 << self.width) - 1) * 0x11


def fields(bits: int) -> tuple[Field, ...]:
    """The cut of a code, low bits first; the high part begins at bit 4."""
    cut, start = [], 0
    for part in (min(bits, 4), bits - 4):
        for width in (4, 2, 1):
            if part > 0 and part & width:
                cut.append(Field(start, width))
                start += width
    return tuple(cut)


def stored_cols(cols: int, bits: int) -> int:
    """Codes of a stored row: those of ``cols`` columns, filled up to whole bytes of every plane."""
    step = 2 * max(field.pieces for field in fields(bits))
    return -(-cols // step) * step


def plane(codes: Bytes, field: Field, cols: int) -> Bytes:
    """What is stored of one field.

    Args:
        codes: [rows, columns], unsigned.
        field: which bits.
        cols: of a stored row; zeros fill it up.

    Returns:
        [rows, cols · width / 8].
    """
    bits = (codes >> field.start) & ((1 << field.width) - 1)
    bits = np.pad(bits, ((0, 0), (0, cols - bits.shape[1])))
    halves = bits[:, 0::2] | bits[:, 1::2] << 4
    pieces = halves.reshape(len(codes), field.pieces, -1)
    shifts = (np.arange(field.pieces) * field.width).astype(np.uint8)
    stored: Bytes = np.bitwise_or.reduce(pieces << shifts[:, None], axis=1)
    return stored


@dataclass(frozen=True)
class Planes:
    """A matrix of codes as values of a graph, whole or some of its rows.

    Attributes:
        cols: codes of a row, the zeros at its end counted.
        bits: of a code.
        values: uint8 [..., cols · width / 8], one for each of ``fields(bits)``.
        rank: dimensions of each of them.
    """

    cols: int
    bits: int
    values: tuple[ir.Value, ...]
    rank: int = 2

    @classmethod
    def store(
        cls, site: Site, name: str, codes: Callable[[], torch.Tensor], shape: tuple[int, int], bits: int, of: object
    ) -> Planes:
        """Initializers, made when the file is written.

        Args:
            site: where they are used.
            name: of the matrix within its layer.
            codes: gives the codes, unsigned, uint8 of ``shape``.
            shape: rows and columns.
            bits: of a code.
            of: the tensor that they are of; layers that share it share the initializers.
        """
        rows, cols = shape[0], stored_cols(shape[1], bits)

        def stored(field: Field) -> ir.TensorProtocol:
            return ir.LazyTensor(
                lambda: ir.Tensor(plane(codes().numpy(), field, cols)),
                dtype=ir.DataType.UINT8,
                shape=ir.Shape([rows, cols * field.width // 8]),
            )

        named = zip(_names(name, bits), fields(bits))
        return cls(cols, bits, tuple(site.shared(partial(stored, field), full, of) for full, field in named))

    @staticmethod
    def are_stored(site: Site, name: str, bits: int, of: object) -> bool:
        """Whether ``store`` was called for ``of`` before."""
        return site.has(_names(name, bits)[0], of)

    def rows(self, op: Operators, indices: ir.Value, rank: int) -> Planes:
        """The rows ``indices``, which have ``rank`` dimensions; the result has them in the place of the first one."""
        values = tuple(op.Gather(value, indices, axis=0) for value in self.values)
        return Planes(self.cols, self.bits, values, rank + 1)

    def part(self, op: Operators, high: bool = False) -> ir.Value:
        """The low four bits of each code, or those above: two codes a byte, uint8 [..., cols / 2]."""
        start = 4 if high else 0
        chosen = [(f, v) for f, v in zip(fields(self.bits), self.values) if (f.start >= 4) == high]
        return reduce(op.BitwiseOr, (shifted(op, _unpacked(op, v, f), start - f.start) for f, v in chosen))

    def bytes(self, op: Operators) -> ir.Value:
        """One code a byte, uint8 [..., cols]."""
        low = self.part(op)
        even, odd = op.BitwiseAnd(low, byte(op, 0x0F)), shifted(op, low, 4)
        if self.bits > 4:
            high = self.part(op, high=True)
            even = op.BitwiseOr(even, shifted(op, high, -4))
            odd = op.BitwiseOr(odd, op.BitwiseAnd(high, byte(op, 0xF0)))
        last = integers(op, [-1])
        pairs = op.Concat(op.Unsqueeze(even, last), op.Unsqueeze(odd, last), axis=-1)
        return op.Reshape(pairs, integers(op, [*[0] * (self.rank - 1), self.cols]))


def _names(name: str, bits: int) -> list[str]:
    """Of the planes of the matrix ``name``."""
    cut = fields(bits)
    return [name if len(cut) == 1 else f"{name}_bit{field.start}" for field in cut]


def _unpacked(op: Operators, value: ir.Value, field: Field) -> ir.Value:
    """A plane's fields with four bits for each."""
    if field.pieces == 1:
        return value
    pieces = (shifted(op, value, i * field.width) for i in range(field.pieces))
    return op.Concat(*(op.BitwiseAnd(piece, byte(op, field.mask)) for piece in pieces), axis=-1)


def shifted(op: Operators, value: ir.Value, right: int) -> ir.Value:
    """Every byte moved to the right, or to the left if ``right`` is negative."""
    if right == 0:
        return value
    return op.BitShift(value, byte(op, abs(right)), direction="RIGHT" if right > 0 else "LEFT")


def byte(op: Operators, value: int) -> ir.Value:
    """A constant, uint8 []."""
    return op.Constant(value=ir.tensor(np.uint8(value)))


def integers(op: Operators, values: Iterable[int]) -> ir.Value:
    """A constant, int64 [n]."""
    return op.Constant(value=ir.tensor(np.array(list(values), np.int64)))


def first(op: Operators, values: ir.Value, cols: int, count: int, rank: int) -> ir.Value:
    """Of ``values`` [..., cols], of ``rank`` dimensions, the first ``count`` columns."""
    if cols == count:
        return values
    return op.Slice(values, *(integers(op, [number]) for number in (0, count, rank - 1)))
