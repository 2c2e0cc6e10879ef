"""Weights as ONNX Runtime's MatMulNBits takes them: blocks of 16 to 256 columns, a power of two, that share a scale."""

from __future__ import annotations

from dataclasses import dataclass

from eqnet.packed.layers import PackedLayer
from eqnet.packed.tensor import PackedTensor

SMALLEST, LARGEST = 16, 256

_MOST_PADDING = 1 / 16
"""Of a row whose columns all share a scale, for the sake of larger blocks: they need fewer scales in memory."""


@dataclass(frozen=True)
class Blocks:
    """How a row of a weight is cut.

    Attributes:
        size: columns of a block.
        count: blocks of a row.
        cols: columns of a row that hold a weight, zeros between groups counted.
        group: columns that share a scale in the packed weight.
        groups: those of a row.
        padded: columns of a group with the zeros behind it; ``group`` if there are none.
    """

    size: int
    count: int
    cols: int
    group: int
    groups: int
    padded: int

    @classmethod
    def of(cls, weight: PackedTensor) -> Blocks | None:
        """None for groups of an odd size: their codes do not begin at whole bytes."""
        cols, groups = weight.cols, weight.scale.shape[1]
        if groups == 1:
            sizes = [size for size in _SIZES if _up(cols, size) <= cols * (1 + _MOST_PADDING)]
            size = max(sizes, default=SMALLEST)
            return cls(size, -(-cols // size), cols, cols, 1, cols)
        group = weight.format.group_size
        if group % 2:
            return None
        padded = _up(group, SMALLEST)
        size = max(size for size in _SIZES if padded % size == 0)
        cols = cols if padded == group else groups * padded
        return cls(size, -(-cols // size), cols, group, groups, padded)

    def group_of(self, block: int) -> int:
        """The group that a block is part of."""
        return 0 if self.groups == 1 else block * self.size // self.padded

    @property
    def spread(self) -> bool:
        """Whether zeros follow each group, in the weight as in the input."""
        return self.padded != self.group

    @property
    def one_a_group(self) -> bool:
        """Whether blocks are groups."""
        return self.count == self.groups


def blocks_for(layer: PackedLayer, portable: bool) -> Blocks | None:
    """How a linear layer or an embedding is cut; None where it takes operators of the standard."""
    return None if portable else Blocks.of(layer.weight)


_SIZES = tuple(1 << i for i in range(SMALLEST.bit_length() - 1, LARGEST.bit_length()))


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
