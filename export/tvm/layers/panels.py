"""Packed weights in the order in which functions of TVM read them: exactly b bits a code, up to padding.

A code is split into planes of 8, 4, 2 and 1 bits, its low bits in the widest one, as in ``eqnet.packed.planes``. Here
rows come in panels of some lanes, so that codes of one column lie in neighbouring bytes; a byte holds codes of one row
and neighbouring columns, the first in its low bits. The plane of 4 bits, in panels of 4 lanes:

    panel 0                                                      rows 0 to 3
      columns 0, 1   w₁₀w₀₀ w₁₁w₀₁ w₁₂w₀₂ w₁₃w₀₃                 w₁₀: column 1 of row 0
      columns 2, 3   w₃₀w₂₀ …
    panel 1 …

With one lane, rows follow each other, each from a byte of its own. What is beyond the last row or column is 0.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eqnet.packed.planes import PLANES
from eqnet.packed.tensor import PackedTensor

MAX_GROUP = 32768
"""Columns of a group: so many products of two integers of at most 255 fit into the 32 bits of a sum."""


@dataclass(frozen=True, eq=False)
class Panels:
    """A [rows, cols] matrix: ``(stored code - zero) · scale``.

    Attributes:
        bits: of a code.
        rows, cols: of the matrix.
        lanes: rows of a panel.
        group: consecutive columns that share a scale; the last group may be shorter.
        planes: widest first, uint8 [panels, ⌈cols · width / 8⌉, lanes] each.
        scale: float32 [panels, groups, lanes].
        zero: counted as codes are stored, from 0: uint8 like ``scale``, or one number for all.
    """

    bits: int
    rows: int
    cols: int
    lanes: int
    group: int
    planes: tuple[npt.NDArray[np.uint8], ...]
    scale: npt.NDArray[np.float32]
    zero: npt.NDArray[np.uint8] | int

    @classmethod
    def of(cls, weight: PackedTensor, lanes: int) -> Panels:
        """Those of a packed weight of at least one row and one column."""
        fmt, rows, cols = weight.format, weight.rows, weight.cols
        stored = (weight.integers() - fmt.qmin).numpy().astype(np.uint8)
        size = min(fmt.group_size or cols, cols)
        group = min(size, MAX_GROUP)
        start = np.arange(0, cols, group) if size > MAX_GROUP else np.arange(0, cols, size)

        def of_groups(parts: npt.NDArray[Any]) -> npt.NDArray[Any]:
            whole = np.broadcast_to(parts, (rows, parts.shape[1]))[:, start // size]
            return _by_lane(whole, lanes)

        zero: npt.NDArray[np.uint8] | int = -fmt.qmin
        if not fmt.symmetric:
            zero = of_groups(weight.zero_points().numpy().astype(np.uint8))
        planes = _planes(_by_lane(stored, lanes), fmt.bits)
        return cls(fmt.bits, rows, cols, lanes, group, planes, of_groups(weight.scale.float().numpy()), zero)

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of each plane."""
        return tuple(width for width in PLANES if self.bits & width)

    @property
    def layout(self) -> Hashable:
        """All but what the arrays hold."""
        zero = self.zero if isinstance(self.zero, int) else None
        return self.bits, self.rows, self.cols, self.lanes, self.group, zero

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """All that is stored: the planes, the scales, and the zero points if there are several."""
        zero = () if isinstance(self.zero, int) else (self.zero,)
        return (*self.planes, self.scale, *zero)


def _by_lane(matrix: npt.NDArray[Any], lanes: int) -> npt.NDArray[Any]:
    """[rows, columns] → [panels, columns, lanes], with zeros beyond the last row."""
    rows, columns = matrix.shape
    padded = np.zeros((-(-rows // lanes) * lanes, columns), matrix.dtype)
    padded[:rows] = matrix
    return np.ascontiguousarray(padded.reshape(-1, lanes, columns).transpose(0, 2, 1))


def _planes(codes: npt.NDArray[np.uint8], bits: int) -> tuple[npt.NDArray[np.uint8], ...]:
    """[panels, columns, lanes] → the planes of these codes."""
    panels, columns, lanes = codes.shape
    planes, done = [], 0
    for width in (width for width in PLANES if bits & width):
        per_byte = 8 // width
        part = np.zeros((panels, -(-columns // per_byte) * per_byte, lanes), np.uint8)
        part[:, :columns] = (codes >> done) & ((1 << width) - 1)
        shifts = np.arange(0, 8, width, dtype=np.uint8).reshape(1, 1, -1, 1)
        parts = part.reshape(panels, -1, per_byte, lanes) << shifts
        planes.append(np.bitwise_or.reduce(parts, axis=2))
        done += width
    return tuple(planes)
