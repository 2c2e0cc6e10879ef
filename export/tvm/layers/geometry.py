"""Which inputs an output of a convolution reads: of 1 to 3 dimensions, transposed ones, and every kind of padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from eqnet.packed.layers import PackedConv, PackedConvTranspose

Expr = Any
"""A number, or a TIR expression of one."""

Ints = tuple[int, ...]

_POSITIONS: Mapping[str, Callable[[Expr, Expr], Expr]] = MappingProxyType(
    {
        "circular": lambda at, size: (at + size) % size,
        "reflect": lambda at, size: T.max(at, -at) - 2 * T.max(at - (size - 1), 0),
        "replicate": lambda at, size: T.max(T.min(at, size - 1), 0),
    }
)
"""By padding mode, the input that stands at a position outside; zeros have none."""


@dataclass(frozen=True)
class Geometry:
    """A convolution: a kernel that slides over its input with padding around it.

    Transposed convolutions are those of an input with zeros between its elements, by the mirrored kernel.

    Attributes:
        kernel, stride, dilation: by dimension.
        before, after: padding by dimension; less than 0 if inputs are left out.
        groups: of channels.
        mode: of the padding, as torch names it.
        spread: distance of inputs, by dimension: the stride of a transposed convolution.
        mirrored: whether the last weight meets the first input.
    """

    kernel: Ints
    stride: Ints
    dilation: Ints
    before: Ints
    after: Ints
    groups: int
    mode: str
    spread: Ints
    mirrored: bool

    @classmethod
    def of(cls, layer: PackedConv | PackedConvTranspose) -> Geometry:
        """That of a packed layer."""
        reach = tuple(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        ones = (1,) * len(reach)
        if isinstance(layer, PackedConvTranspose):
            before = tuple(r - p for r, p in zip(reach, layer.padding, strict=True))
            after = tuple(b + o for b, o in zip(before, layer.output_padding, strict=True))
            return cls(
                layer.kernel_size, ones, layer.dilation, before, after, layer.groups, "zeros", layer.stride, True
            )
        before, after = _padding(layer.padding, reach)
        mode, groups = layer.padding_mode, layer.groups
        return cls(layer.kernel_size, layer.stride, layer.dilation, before, after, groups, mode, ones, False)

    @property
    def reads_plainly(self) -> bool:
        """Whether the kernel slides over the input as it is."""
        return not any((*self.before, *self.after)) and set(self.spread) == {1}

    def surrounded(self, sizes: Sequence[Expr]) -> tuple[Expr, ...]:
        """Sizes of the input with what is around and between."""
        return tuple(
            (size - 1) * spread + 1 + before + after
            for size, spread, before, after in zip(sizes, self.spread, self.before, self.after, strict=True)
        )

    def outputs(self, sizes: Sequence[Expr]) -> tuple[Expr, ...]:
        """Sizes of the result."""
        return tuple(
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                self.surrounded(sizes), self.kernel, self.stride, self.dilation, strict=True
            )
        )

    def read_at(self, outputs: Sequence[Expr], taps: Sequence[Expr]) -> list[Expr]:
        """The position, among what is surrounded, that an output reads for one weight of the kernel."""
        if self.mirrored:
            taps = [kernel - 1 - tap for kernel, tap in zip(self.kernel, taps, strict=True)]
        return [
            output * stride + tap * dilation
            for output, stride, tap, dilation in zip(outputs, self.stride, taps, self.dilation, strict=True)
        ]

    def source(self, at: Sequence[Expr], sizes: Sequence[Expr]) -> tuple[list[Expr], Expr]:
        """The input that is at a position among what is surrounded, and whether there is one; None if always."""
        shifted = [position - before for position, before in zip(at, self.before, strict=True)]
        if self.mode in _POSITIONS:
            return [_POSITIONS[self.mode](position, size) for position, size in zip(shifted, sizes, strict=True)], None
        positions = [position // spread for position, spread in zip(shifted, self.spread, strict=True)]
        conditions = []
        for position, spread, source, size in zip(shifted, self.spread, positions, sizes, strict=True):
            conditions += [position >= 0, source < size]
            if spread > 1:
                conditions.append(position % spread == 0)
        return positions, tirx.all(*conditions)


def _padding(padding: str | Ints, reach: Ints) -> tuple[Ints, Ints]:
    """Before and after; ``same`` puts what is odd after."""
    if isinstance(padding, str):
        before = tuple(r // 2 if padding == "same" else 0 for r in reach)
        return before, tuple(r - b if padding == "same" else 0 for r, b in zip(reach, before, strict=True))
    return padding, padding
