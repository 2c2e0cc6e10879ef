"""Packed matrices in NumPy's memory, and in the order in which the kernels of the CPU read them.

``cpp/include/eqnet/panels.h`` draws that order. Nothing here needs PyTorch: ``eqnet.ops.panels`` does the same for its
tensors, by way of this.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from eqnet import _kernels
from eqnet.errors import InputError
from eqnet.formats import Format, Granularity
from eqnet.native import SCALE_TYPES, address
from eqnet.packed.layout import SIZES

Bytes = NDArray[np.uint8]

PANEL = 32
"""Output channels of a panel."""

_LARGE_PAGE = 1 << 21
"""Bytes of a large page: reading much memory in small ones costs a tenth of the bandwidth."""

_LINE = 64
"""Bytes of a line of the cache."""

Shape = tuple[int, int, int, int]
"""Rows, columns, columns that share a scale, bits."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What a packed matrix is like.

    Attributes:
        format: of the codes.
        rows, cols: its size.
        scale_type: one of ``SCALE_TYPES``.
    """

    format: Format
    rows: int
    cols: int
    scale_type: str

    @property
    def shape(self) -> Shape:
        """As the kernels take it; raises InputError if there are no columns."""
        if not self.cols:
            raise InputError(f"panels are made of a weight with columns; this one is [{self.rows}, {self.cols}]")
        return self.rows, self.cols, min(self.format.group_size or self.cols, self.cols), self.format.bits

    @property
    def room(self) -> int:
        """Bytes that ``MatrixPanels.of`` fills, whole lines."""
        return starts(self.shape, SIZES[self.scale_type], self.format.symmetric)[-1]

    @property
    def has_scale_per_row(self) -> bool:
        """Whether rows have scales of their own."""
        return self.format.granularity is not Granularity.TENSOR


@dataclass(frozen=True, eq=False)
class Matrix(Outline):
    """A packed matrix as it is stored; its parts are as ``check_parts`` has them, bytes without gaps.

    Attributes:
        codes: their planes.
        scale: as stored.
        zero_point: planes; None if symmetric.
    """

    codes: Bytes
    scale: Bytes
    zero_point: Bytes | None

    def gather(self, rows: NDArray[np.int64], threads: int) -> NDArray[np.float32]:
        """Some rows, dequantized, float32 [rows, cols].

        Raises:
            IndexError: a row is none of the matrix.
        """
        out = np.empty((len(rows), self.cols), np.float32)
        inside = _kernels.gather_rows(
            *self.shape,
            address(self.codes),
            address(self.scale),
            SCALE_TYPES[self.scale_type],
            self.has_scale_per_row,
            address(self.zero_point),
            address(rows),
            len(rows),
            address(out),
            threads,
        )
        if not inside:
            raise IndexError(f"indices from {rows.min()} to {rows.max()} into a table of {self.rows} rows")
        return out


@dataclass(frozen=True, eq=False)
class MatrixPanels:
    """A packed matrix, prepared for the kernels.

    Attributes:
        codes: in lines of 64 bytes.
        scales: [panels · groups · 32], as stored, as bytes.
        zeros: unsigned zero points, one a scale; None if symmetric.
        scale_type: one of ``SCALE_TYPES``.
        shape: of the matrix.
    """

    codes: Bytes
    scales: Bytes
    zeros: Bytes | None
    scale_type: str
    shape: Shape

    @classmethod
    def of(cls, matrix: Matrix, memory: Bytes, threads: int) -> MatrixPanels:
        """Reorders ``matrix`` into ``memory``: uint8 [matrix.room], from the start of a line on."""
        shape, scale_type, symmetric = matrix.shape, matrix.scale_type, matrix.format.symmetric
        code_bytes, scale_count = sizes(*shape)
        first, second, third, _ = starts(shape, SIZES[scale_type], symmetric)
        panels = cls(
            memory[first : first + code_bytes],
            memory[second : second + scale_count * SIZES[scale_type]],
            None if symmetric else memory[third : third + scale_count],
            scale_type,
            shape,
        )
        _kernels.fill_panels(
            *shape,
            address(matrix.codes),
            address(matrix.scale),
            SIZES[scale_type],
            matrix.has_scale_per_row,
            address(matrix.zero_point),
            address(panels.codes),
            address(panels.scales),
            address(panels.zeros),
            threads,
        )
        return panels


@cache
def sizes(rows: int, cols: int, size: int, bits: int) -> tuple[int, int]:
    """Bytes of codes, and number of scales."""
    return _kernels.panel_sizes(rows, cols, size, bits)


def starts(shape: Shape, scale_bytes: int, symmetric: bool) -> list[int]:
    """Where codes, scales of so many bytes and zero points begin, each at a line, and where they end."""
    code_bytes, scale_count = sizes(*shape)
    places = [0]
    for size in (code_bytes, scale_count * scale_bytes, 0 if symmetric else scale_count):
        places.append(places[-1] + -(-size // _LINE) * _LINE)
    return places


def lines(size: int) -> Bytes:
    """uint8 [size], from the start of a line on; in large pages if it fills some and the system has them."""
    if size < 2 * _LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        memory = np.empty(size + _LINE, np.uint8)
        start = -address(memory) % _LINE
    else:
        # Private, as large pages of shared memory are a setting of their own, mostly off. What is left of a large page
        # before the start is never touched, and so takes no memory.
        mapping = mmap.mmap(-1, size + _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mapping.madvise(mmap.MADV_HUGEPAGE)
        memory = np.frombuffer(mapping, np.uint8)
        start = -address(memory) % _LARGE_PAGE
    return memory[start : start + size]
