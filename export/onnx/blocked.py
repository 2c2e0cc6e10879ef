"""The parts of a packed weight as ONNX Runtime's operators with blocks take them, made when a file is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir
from torch import Tensor

from eqnet.export.onnx.blocks import Blocks
from eqnet.export.onnx.planes import Planes, byte, integers, shifted
from eqnet.export.onnx.registry import Site
from eqnet.packed.planes import unpack
from eqnet.packed.tensor import PackedTensor

DOMAIN = "com.microsoft"


def stored_codes(site: Site, weight: PackedTensor) -> Planes:
    """The codes in the file, [rows, cols]."""
    return _stored(site, "weight", weight.codes, (weight.rows, weight.cols), weight.format.bits)


def stored_zero_points(site: Site, weight: PackedTensor) -> Planes | None:
    """The zero points in the file, of the shape of the scales; None if the format is symmetric."""
    if weight.zero_point is None:
        return None
    rows, groups = weight.scale.shape
    return _stored(site, "zero_point", weight.zero_point, (rows, groups), weight.format.bits)


def _stored(site: Site, name: str, packed: Tensor, shape: tuple[int, int], bits: int) -> Planes:
    return Planes.store(site, name, lambda: unpack(packed, shape[0] * shape[1], bits).view(shape), shape, bits, packed)


def stored_scales(site: Site, weight: PackedTensor) -> ir.Value:
    """The scales as float32, of their shape; in the file in their own type."""
    scale = site.shared(lambda: ir.tensor(weight.scale), "scale", weight.scale)
    return scale if scale.dtype == ir.DataType.FLOAT else site.op.Cast(scale, to=ir.DataType.FLOAT)


@dataclass(frozen=True)
class BlockedWeight:
    """A weight in blocks.

    Attributes:
        site: where it is used.
        blocks: how its rows are cut.
        weight: as it is packed.
    """

    site: Site
    blocks: Blocks
    weight: PackedTensor

    def codes(self, start: int, bits: int) -> ir.Value:
        """``bits`` (4 or 8) bits of each code from ``start`` on, uint8 [rows, blocks, bytes of a block]."""
        blocks, each = self.blocks, 8 // bits
        stored = stored_codes(self.site, self.weight)
        codes, cols = self._bits(stored, start, bits), stored.cols
        if blocks.spread:
            codes = self._filled(codes, (cols, blocks.groups * blocks.group), each, rank=2)
            codes = self._reshaped(codes, blocks.groups, blocks.group // each)
            codes = self._filled(codes, (blocks.group, blocks.padded), each, rank=3)
        else:
            codes = self._filled(codes, (cols, blocks.count * blocks.size), each, rank=2)
        return self._reshaped(codes, blocks.count, blocks.size // each)

    def scales(self) -> ir.Value:
        """Float32 [rows, blocks]."""
        blocks, rows = self.blocks, self.weight.rows
        scale = stored_scales(self.site, self.weight)
        if blocks.groups > 1:
            return scale if blocks.one_a_group else self._of_blocks(scale, range(blocks.count))
        return self._expanded(scale, tuple(self.weight.scale.shape), (rows, blocks.count))

    def zero_points(self, start: int, bits: int, explicit: bool = False) -> ir.Value | None:
        """``bits`` (4 or 8) bits of each zero point from ``start`` on, uint8 [rows, bytes of them].

        None where it is the default, half of the range, unless ``explicit``.
        """
        fmt, blocks, op = self.weight.format, self.blocks, self.site.op
        shape = self.weight.rows, -(-blocks.count * bits // 8)
        stored = stored_zero_points(self.site, self.weight)
        if stored is None:
            value = ((1 << fmt.bits - 1) >> start) & ((1 << bits) - 1)
            if value == 1 << bits - 1 and not explicit:
                return None
            return self._expanded(byte(op, value * (0x11 if bits == 4 else 1)), (1, 1), shape)
        rows = self.weight.scale.shape[0]
        if bits == 8:
            points = self._of_blocks(stored.bytes(op), range(blocks.count))
        elif blocks.one_a_group:
            points = self._filled(self._bits(stored, start, 4), (stored.cols, 2 * shape[1]), 2, rank=2)
        else:
            points = op.BitwiseAnd(shifted(op, stored.bytes(op), start), byte(op, 0x0F))
            last = blocks.count - 1
            pairs = ([min(i, last) for i in range(first, 2 * shape[1], 2)] for first in (0, 1))
            even, odd = (self._of_blocks(points, chosen) for chosen in pairs)
            points = op.BitwiseOr(even, shifted(op, odd, -4))
        return self._expanded(points, (rows, shape[1]), shape)

    def _bits(self, stored: Planes, start: int, bits: int) -> ir.Value:
        return stored.bytes(self.site.op) if bits == 8 else stored.part(self.site.op, high=start > 0)

    def _of_blocks(self, by_group: ir.Value, blocks: Iterable[int]) -> ir.Value:
        """From what groups have [rows, groups] to what ``blocks`` have."""
        groups = [self.blocks.group_of(block) for block in blocks]
        return self.site.op.Gather(by_group, integers(self.site.op, groups), axis=1)

    def _expanded(self, value: ir.Value, shape: tuple[int, ...], to: tuple[int, ...]) -> ir.Value:
        return value if shape == to else self.site.op.Expand(value, integers(self.site.op, to))

    def _reshaped(self, codes: ir.Value, *row: int) -> ir.Value:
        return self.site.op.Reshape(codes, integers(self.site.op, [self.weight.rows, *row]))

    def _filled(self, codes: ir.Value, cols: tuple[int, int], each: int, rank: int) -> ir.Value:
        """From ``cols[0]`` codes in the last dimension to ``cols[1]``, ``each`` of them a byte, by zeros at the end."""
        more = (cols[1] - cols[0]) // each
        return self.site.op.Pad(codes, integers(self.site.op, [*[0] * (2 * rank - 1), more])) if more else codes
