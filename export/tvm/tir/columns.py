"""Convolutions of every kind, one input at a time, for vectors of 16 output channels.

Depthwise convolutions read a vector of inputs for a vector of outputs; those of one group of channels read one input
for all; others gather. Weights lie in the order of the packed ones, transposed:

    panel 0 | panel 1 | ...             16 output channels each
    input 0 | input 1 | ...             of one output, counted as in the weight: channel, row, column of the kernel
    channel 0 | channel 1 | ...         a code each

They are unpacked to 16 bits, less their zero points. A result is Σ (start + Σ w·x) · multiplier + bias, the outer sum
over the groups of inputs that share a scale.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.tir import planes
from eqnet.export.tvm.tir.emit import (
    Argument,
    Buffer,
    Expr,
    bind,
    least,
    load,
    local,
    loop,
    quotient,
    remainder,
    scratch,
    store,
)
from eqnet.export.tvm.tir.finish import Finish, Writer
from eqnet.export.tvm.tir.layout import LANES, CodeImage
from eqnet.export.tvm.tir.tiles import Tiling, tiling
from eqnet.export.tvm.tir.weights import Weights, in_panels
from eqnet.runtime.convolution import Pair

REGISTERS = 16
"""Vectors of 16 integers that tiles may hold."""

UNROLLED = 25
"""Inputs of one output, at most, that are written out one by one."""


@dataclass(frozen=True)
class Columns:
    """A convolution.

    Attributes:
        input: the codes that it reads.
        finish: what it writes.
        groups: of channels.
        kernel, stride, dilation: rows and columns.
        bits: of a weight's code.
        inputs: of one output.
        group_size: consecutive inputs that share a scale; all of them at most.
    """

    input: CodeImage
    finish: Finish
    groups: int
    kernel: Pair
    stride: Pair
    dilation: Pair
    bits: int
    inputs: int
    group_size: int

    @property
    def scales(self) -> int:
        """Of one output channel."""
        return -(-self.inputs // self.group_size)

    @property
    def panels(self) -> int:
        """Vectors of output channels."""
        return self.finish.image.panels

    @property
    def depthwise(self) -> bool:
        """Whether neighbouring outputs read neighbouring inputs."""
        return 1 < self.groups == self.input.image.size.channels == self.finish.image.size.channels

    @property
    def constants(self) -> tuple[Argument, ...]:
        """The tensors that ``constants`` gives."""
        by_scale = self.panels * self.scales * LANES
        return (
            Argument(self.panels * planes.packed_bytes(self.inputs * LANES, self.bits, LANES), "uint8"),
            Argument(by_scale, "uint8"),
            Argument(by_scale, "float32"),
            Argument(by_scale, "int32"),
            Argument(self.panels * LANES, "float32"),
        )

    def tiling(self) -> Tiling:
        """How its outputs are computed, one vector of channels at a time."""
        held, size = 2 if self.scales > 1 else 1, self.finish.image.size
        found = tiling(size, 1, REGISTERS, held, 0, size.channels * self.inputs)
        return Tiling(size, found.rows, found.columns, 1, self.panels, found.products)


def constants(spec: Columns, weights: Weights, input_zero: int, factor: np.float32) -> list[npt.NDArray[Any]]:
    """The tensors that the function reads beside its input.

    Args:
        spec: the convolution.
        weights: its weights.
        input_zero: the zero point of its input.
        factor: of multipliers and bias.
    """
    panels = [
        in_panels(part, LANES, spec.panels) for part in (weights.codes, weights.zero, weights.multiplier * factor)
    ]
    codes, zero, multiplier = (part.transpose(0, 2, 1) for part in panels)
    start = in_panels(-input_zero * weights.sums, LANES, spec.panels).transpose(0, 2, 1)
    packed = planes.pack(codes.reshape(spec.panels, -1).astype(np.uint8), spec.bits, LANES)
    parts = packed, zero, multiplier, start, in_panels(weights.bias * factor, LANES, spec.panels)
    return [np.ascontiguousarray(part.reshape(-1)) for part in parts]


class Body:
    """Writes the statements of the function.

    Args:
        spec: the convolution.
        images: how many there are.
        buffers: codes, the residual if there is one, constants, the table of ``finish``, outputs.
    """

    def __init__(self, spec: Columns, images: Expr, buffers: list[Buffer]) -> None:
        self.spec, self.images, self.tiling = spec, images, spec.tiling()
        rest = iter(buffers)
        self.input = next(rest)
        residual = next(rest) if spec.finish.residual else None
        self.weights, self.zero, self.multiplier, self.start, self.bias = itertools.islice(rest, 5)
        self.writer = Writer(spec.finish, next(rest), list(rest), residual)

    def write(self) -> None:
        """All of it."""
        tiling = self.tiling
        self.writer.fill_padding(self.images)
        with loop(self.spec.panels, parallel=tiling.parallel_groups) as panel:
            unpacked = self._unpack(panel)
            with loop(self.images * tiling.row_tiles, parallel=tiling.parallel_rows) as row:
                image, y = tiling.row(row)
                with loop(tiling.column_tiles) as column:
                    self._tile(panel, unpacked, image, y, tiling.column(column))

    def _unpack(self, panel: Expr) -> Buffer:
        spec, count = self.spec, self.spec.inputs * LANES
        unpacked = scratch(planes.vectors(count, spec.bits, LANES) * LANES, "int16")

        def put(at: Expr, code: Expr) -> None:
            scale = least(quotient(at, spec.group_size), spec.scales - 1)
            wide = (T.cast(x, f"int16x{LANES}") for x in (code, self._constant(self.zero, panel, scale)))
            store(unpacked, next(wide) - next(wide), LANES, at * LANES)

        packed = planes.packed_bytes(count, spec.bits, LANES)
        planes.unpack(self.weights, panel * packed, count, spec.bits, LANES, put)
        return unpacked

    def _constant(self, buffer: Buffer, panel: Expr, scale: Expr) -> Expr:
        return load(buffer, LANES, (panel * self.spec.scales + scale) * LANES)

    def _tile(self, panel: Expr, weights: Buffer, image: Expr, y: Expr, x: Expr) -> None:
        spec, tiling = self.spec, self.tiling
        row, stride = spec.input.row, spec.input.image.stride
        first = bind(y * (spec.stride[0] * row) + x * (spec.stride[1] * stride) + self._first_channel(panel))
        pixels = [
            (r, c, first + (r * spec.stride[0] * row + c * spec.stride[1] * stride))
            for r in range(tiling.rows)
            for c in range(tiling.columns)
        ]
        sums = [local("int32", LANES) for _ in pixels]
        results = [local("float32", LANES) for _ in pixels if spec.scales > 1]
        for result in results:
            store(result, load(self.bias, LANES, panel * LANES), LANES, 0)
        with loop(spec.scales) as scale:
            for total in sums:
                store(total, self._constant(self.start, panel, scale), LANES, 0)
            begin, count = scale * spec.group_size, min(spec.group_size, spec.inputs)
            if spec.scales > 1 and spec.inputs % spec.group_size:
                count = least(count, spec.inputs - begin)
            steps = range(count) if isinstance(count, int) and count <= UNROLLED else None
            if steps is None:
                with loop(count) as k:
                    self._step(sums, weights, image, panel, pixels, begin + k)
            for k in steps or ():
                self._step(sums, weights, image, panel, pixels, begin + k)
            for total, result in zip(sums, results, strict=False):
                store(result, self._scaled(total, panel, scale, load(result, LANES, 0)), LANES, 0)
        for p, (r, c, _) in enumerate(pixels):
            if results:
                value = load(results[p], LANES, 0)
            else:
                value = self._scaled(sums[p], panel, 0, load(self.bias, LANES, panel * LANES))
            self.writer.write(value, LANES, image, y + r, x + c, panel * LANES)

    def _first_channel(self, panel: Expr) -> Expr:
        return panel * LANES if self.spec.depthwise else 0

    def _scaled(self, total: Buffer, panel: Expr, scale: Expr, before: Expr) -> Expr:
        """A sum of integers as floating point, added to what is there."""
        multiplier = self._constant(self.multiplier, panel, scale)
        return T.cast(load(total, LANES, 0), f"float32x{LANES}") * multiplier + before

    def _step(
        self,
        sums: list[Buffer],
        weights: Buffer,
        image: Expr,
        panel: Expr,
        pixels: list[tuple[int, int, Expr]],
        k: Expr,
    ) -> None:
        """Adds the products of one input of each output."""
        spec, (height, width) = self.spec, self.spec.kernel
        row, stride, place = spec.input.row, spec.input.image.stride, remainder(k, height * width)
        offset = quotient(k, height * width) + quotient(place, width) * (spec.dilation[0] * row)
        offset += remainder(place, width) * (spec.dilation[1] * stride)
        w = bind(T.cast(load(weights, LANES, k * LANES), f"int32x{LANES}"))
        for total, (_, _, at) in zip(sums, pixels, strict=True):
            x = self._inputs(image, panel, at + offset)
            store(total, load(total, LANES, 0) + w * T.cast(x, f"int32x{LANES}"), LANES, 0)

    def _inputs(self, image: Expr, panel: Expr, at: Expr) -> Expr:
        """What a vector of outputs reads, uint8 [16]."""
        spec = self.spec
        if spec.depthwise:
            return load(self.input, LANES, image, at)
        if spec.groups == 1:
            return T.broadcast(self.input[image, at], LANES)
        # Output channels beyond the last one read what the last one does.
        outputs, last = self.spec.finish.image.size.channels, self.spec.input.image.size.channels // spec.groups
        channel = T.min(T.ramp(panel * LANES, 1, LANES), T.broadcast(outputs - 1, LANES))
        group = T.truncdiv(channel, T.broadcast(outputs // spec.groups, LANES))
        return self.input[image, T.broadcast(at, LANES) + group * T.broadcast(last, LANES)]
