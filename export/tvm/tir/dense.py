"""Convolutions by dot products of four inputs at a time, for processors that have an instruction for them.

Outputs are computed in tiles of some pixels by some vectors of channels. Inputs of one pixel that are neighbours in
memory make a run, which is read in fours; weights lie in the same order,

    panel 0 | panel 1 | ...             as many output channels each as a vector has lanes
    run 0 | run 1 | ...
    four 0 | four 1 | ...               the last one of a run may reach beyond it, where weights are 0
    channel 0: 4 codes | channel 1: 4 codes | ...

A result is (start + Σ w·x + offset · Σ x) · multiplier + bias, where w are the codes less a number that makes them fit
into a signed byte, and the offset, if one is left, makes up for it. If inputs share a scale in groups, there is such a
sum for each group.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.tir import planes
from eqnet.export.tvm.tir.dots import Dot
from eqnet.export.tvm.tir.emit import Argument, Buffer, Expr, bind, least, load, local, loop, scratch, splat, store
from eqnet.export.tvm.tir.finish import Finish, Writer
from eqnet.export.tvm.tir.layout import CodeImage
from eqnet.export.tvm.tir.tiles import Tiling, tiling
from eqnet.export.tvm.tir.weights import Weights, in_panels
from eqnet.runtime.convolution import Pair

FOUR = 4


@dataclass(frozen=True)
class Dense:
    """A convolution of one group of channels.

    Attributes:
        input: the codes that it reads.
        finish: what it writes.
        kernel, stride, dilation: rows and columns.
        bits: of a weight's code.
        symmetric: whether all zero points are in the middle of the codes.
        group_size: consecutive inputs that share a scale, a multiple of four; 0 if all do. Then the kernel is one
            pixel.
        dot: the instruction.
    """

    input: CodeImage
    finish: Finish
    kernel: Pair
    stride: Pair
    dilation: Pair
    bits: int
    symmetric: bool
    group_size: int
    dot: Dot

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.input.image.size.channels

    @property
    def merged(self) -> bool:
        """Whether the inputs of a row of the kernel make one run."""
        stride = self.input.image.stride
        return self.dilation[1] == 1 and stride in (FOUR, self.channels)

    @property
    def runs(self) -> tuple[int, int]:
        """Runs by rows and columns of the kernel."""
        return self.kernel[0], 1 if self.merged else self.kernel[1]

    @property
    def fours(self) -> int:
        """Of one run."""
        return -(-(self.kernel[1] * self.input.image.stride if self.merged else self.channels) // FOUR)

    @property
    def depth(self) -> int:
        """Fours of one output."""
        return self.runs[0] * self.runs[1] * self.fours

    @property
    def scales(self) -> int:
        """Of one output channel."""
        return -(-self.channels // self.group_size) if self.group_size else 1

    @property
    def panels(self) -> int:
        """Vectors of output channels."""
        return -(-self.finish.image.size.channels // self.dot.lanes)

    @property
    def width(self) -> int:
        """Bytes of a vector."""
        return self.dot.lanes * FOUR

    @property
    def own_zeros(self) -> bool:
        """Whether codes less their zero points fit into signed bytes, and each channel has one."""
        return not self.symmetric and self.bits < 8 and not self.group_size

    @property
    def has_offset(self) -> bool:
        """Whether the codes are not less their zero points."""
        return not self.symmetric and not self.own_zeros

    @property
    def constants(self) -> tuple[Argument, ...]:
        """The tensors that ``constants`` gives."""
        by_scale = self.panels * self.scales * self.dot.lanes
        row = planes.packed_bytes(self.depth * self.width, self.bits, self.width)
        return (
            Argument(self.panels * row, "int8" if self.bits == 8 else "uint8"),
            Argument(by_scale, "float32"),
            Argument(by_scale, "int32"),
            Argument(self.panels * self.dot.lanes, "float32"),
            *[Argument(self.panels * self.width, "uint8")][: self.own_zeros],
            *[Argument(by_scale, "int16"), Argument(self.depth * FOUR, "int8")][: 2 * self.has_offset],
        )

    def tiling(self) -> Tiling:
        """How its outputs are computed."""
        held = 2 if self.group_size else 1  # sums of integers, and of floating point if there are several
        size = self.finish.image.size
        inputs = self.kernel[0] * self.kernel[1] * self.channels
        return tiling(size, self.panels, self.dot.registers, held, int(self.has_offset), size.channels * inputs)


def constants(spec: Dense, weights: Weights, input_zero: int, factor: np.float32) -> list[npt.NDArray[Any]]:
    """The tensors that the function reads beside its input.

    Args:
        spec: the convolution.
        weights: its weights.
        input_zero: the zero point of its input.
        factor: of multipliers and bias.
    """
    lanes, middle = spec.dot.lanes, 1 << (spec.bits - 1)
    zeros = weights.zero[:, 0] if spec.own_zeros else np.full(len(weights.codes), middle, np.uint8)
    codes = _in_runs(spec, weights.codes, zeros)
    ordered = in_panels(codes, lanes, spec.panels).transpose(0, 2, 1, 3).reshape(spec.panels, -1)
    packed = (ordered ^ 128).view(np.int8) if spec.bits == 8 else planes.pack(ordered, spec.bits, spec.width)
    start = ((128 if spec.dot.signed_inputs else 0) - input_zero) * weights.sums
    result = [
        packed,
        _by_scale(spec, weights.multiplier * factor),
        _by_scale(spec, start),
        in_panels(weights.bias * factor, lanes, spec.panels),
    ]
    if spec.own_zeros:
        result.append(in_panels(np.repeat(zeros[:, None], FOUR, 1), lanes, spec.panels))
    if spec.has_offset:
        ones = _in_runs(spec, np.ones_like(weights.codes[:1]), np.zeros(1, np.uint8))
        result += [_by_scale(spec, (middle - weights.zero.astype(np.int16)).astype(np.int16)), ones.astype(np.int8)]
    return [np.ascontiguousarray(part.reshape(-1)) for part in result]


def _in_runs(spec: Dense, codes: npt.NDArray[np.uint8], fill: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """[channels, inputs of one output] as [channels, fours, 4]; ``fill`` [channels] is where there are no weights."""
    rows, (height, width) = len(codes), spec.kernel
    pixels = codes.reshape(rows, spec.channels, height, width).transpose(0, 2, 3, 1)
    gap = spec.input.image.stride - spec.channels if spec.merged else 0
    inputs = _extended(pixels, gap, fill).reshape(rows, spec.runs[0] * spec.runs[1], -1)
    return _extended(inputs, spec.fours * FOUR - inputs.shape[2], fill).reshape(rows, spec.depth, FOUR)


def _extended(codes: npt.NDArray[np.uint8], by: int, fill: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    shape = (*codes.shape[:-1], by)
    return np.concatenate([codes, np.broadcast_to(fill.reshape(-1, *[1] * (codes.ndim - 1)), shape)], -1)


def _by_scale(spec: Dense, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[out_channels, scales] as [panels, scales, lanes]."""
    return in_panels(values, spec.dot.lanes, spec.panels).transpose(0, 2, 1)


class Body:
    """Writes the statements of the function.

    Args:
        spec: the convolution.
        images: how many there are.
        buffers: codes, the residual if there is one, constants, the table of ``finish``, outputs.
    """

    def __init__(self, spec: Dense, images: Expr, buffers: list[Buffer]) -> None:
        self.spec, self.images, self.tiling = spec, images, spec.tiling()
        rest = iter(buffers)
        self.input = next(rest)
        residual = next(rest) if spec.finish.residual else None
        self.weights, self.multiplier, self.start, self.bias = itertools.islice(rest, 4)
        self.zeros = next(rest) if spec.own_zeros else None
        self.offset: Buffer | None = next(rest) if spec.has_offset else None
        self.ones: Buffer | None = next(rest) if spec.has_offset else None
        self.writer = Writer(spec.finish, next(rest), list(rest), residual)

    def write(self) -> None:
        """All of it."""
        spec, tiling = self.spec, self.tiling
        self.writer.fill_padding(self.images)
        with loop(tiling.groups, parallel=tiling.parallel_groups) as group:
            panel = bind(least(group * tiling.vectors, spec.panels - tiling.vectors)) if tiling.groups > 1 else 0
            unpacked, start = self._unpack(panel) if spec.bits < 8 else (self.weights, panel * spec.depth * spec.width)
            with loop(self.images * tiling.row_tiles, parallel=tiling.parallel_rows) as row:
                image, y = tiling.row(row)
                with loop(tiling.column_tiles) as column:
                    self._tile(panel, unpacked, start, image, y, tiling.column(column))

    def _unpack(self, panel: Expr) -> tuple[Buffer, int]:
        spec, width, lanes_ = self.spec, self.spec.width, f"int8x{self.spec.width}"
        room = planes.vectors(spec.depth * width, spec.bits, width) * width
        row = planes.packed_bytes(spec.depth * width, spec.bits, width)
        unpacked = scratch(self.tiling.vectors * room, "int8")
        for v in range(self.tiling.vectors):
            zero = splat(T.uint8(1 << (spec.bits - 1)), width)
            if self.zeros is not None:
                zero = bind(load(self.zeros, width, (panel + v) * width))

            def put(at: Expr, code: Expr, v: int = v, zero: Expr = zero) -> None:
                store(unpacked, T.cast(code - zero, lanes_), width, v * room + at * width)

            planes.unpack(self.weights, (panel + v) * row, spec.depth * width, spec.bits, width, put)
        return unpacked, 0

    def _tile(self, panel: Expr, weights: Buffer, start: Expr, image: Expr, y: Expr, x: Expr) -> None:
        spec, tiling = self.spec, self.tiling
        lanes, row, stride = spec.dot.lanes, spec.input.row, spec.input.image.stride
        first = bind(y * (spec.stride[0] * row) + x * (spec.stride[1] * stride))
        pixels = [
            (r, c, first + (r * spec.stride[0] * row + c * spec.stride[1] * stride))
            for r in range(tiling.rows)
            for c in range(tiling.columns)
        ]
        sums = [[local("int32", lanes) for _ in range(tiling.vectors)] for _ in pixels]
        inputs = [local("int32", lanes) for _ in pixels if spec.has_offset]
        results = [[local("float32", lanes) for _ in range(tiling.vectors)] for _ in pixels if spec.group_size]
        for values in results:
            for v, value in enumerate(values):
                store(value, load(self.bias, lanes, (panel + v) * lanes), lanes, 0)

        def dots(four: Expr, at: Expr) -> None:
            self._dots(sums, inputs, weights, start, image, [p + at for _, _, p in pixels], four)

        with loop(spec.scales) as scale:
            self._begin(sums, inputs, panel, scale)
            if spec.group_size:
                fours = spec.group_size // FOUR
                with loop(least(fours, spec.depth - scale * fours)) as k:
                    dots(scale * fours + k, (scale * fours + k) * FOUR)
            else:
                with loop(spec.runs[0]) as ky, loop(spec.runs[1]) as kx, loop(spec.fours) as k:
                    at = ky * (spec.dilation[0] * row) + kx * (spec.dilation[1] * stride) + k * FOUR
                    dots((ky * spec.runs[1] + kx) * spec.fours + k, at)
            for p, values in enumerate(results):
                for v, value in enumerate(values):
                    store(value, self._scaled(sums, inputs, panel, scale, p, v, load(value, lanes, 0)), lanes, 0)
        for p, (r, c, _) in enumerate(pixels):
            for v in range(tiling.vectors):
                if spec.group_size:
                    value = load(results[p][v], lanes, 0)
                else:
                    value = self._scaled(sums, inputs, panel, 0, p, v, load(self.bias, lanes, (panel + v) * lanes))
                self.writer.write(value, lanes, image, y + r, x + c, (panel + v) * lanes)

    def _constant(self, buffer: Buffer, panel: Expr, scale: Expr, v: int) -> Expr:
        return load(buffer, self.spec.dot.lanes, ((panel + v) * self.spec.scales + scale) * self.spec.dot.lanes)

    def _begin(self, sums: list[list[Buffer]], inputs: list[Buffer], panel: Expr, scale: Expr) -> None:
        lanes = self.spec.dot.lanes
        for v in range(self.tiling.vectors):
            start = bind(self._constant(self.start, panel, scale, v))
            for values in sums:
                store(values[v], start, lanes, 0)
        for total in inputs:
            store(total, splat(T.int32(0), lanes), lanes, 0)

    def _dots(
        self,
        sums: list[list[Buffer]],
        inputs: list[Buffer],
        weights: Buffer,
        start: Expr,
        image: Expr,
        at: list[Expr],
        four: Expr,
    ) -> None:
        """Adds the products of one four of inputs of each pixel."""
        spec, dot = self.spec, self.spec.dot
        room = planes.vectors(spec.depth * spec.width, spec.bits, spec.width) * spec.width
        w = [bind(load(weights, spec.width, start + v * room + four * spec.width)) for v in range(self.tiling.vectors)]
        if self.ones is not None:
            ones = T.broadcast(T.reinterpret("int32", load(self.ones, FOUR, four * FOUR)), dot.lanes)
            ones = bind(T.reinterpret(f"int8x{spec.width}", ones))
        for p, (values, offset) in enumerate(zip(sums, at, strict=True)):
            x = T.reinterpret("int32", load(self.input, FOUR, image, offset))
            x = bind(T.bitwise_xor(x, T.reinterpret("int32", T.uint32(0x80808080))) if dot.signed_inputs else x)
            for v, value in enumerate(values):
                store(value, dot(load(value, dot.lanes, 0), x, w[v]), dot.lanes, 0)
            if inputs:
                store(inputs[p], dot(load(inputs[p], dot.lanes, 0), x, ones), dot.lanes, 0)

    def _scaled(
        self, sums: list[list[Buffer]], inputs: list[Buffer], panel: Expr, scale: Expr, p: int, v: int, before: Expr
    ) -> Expr:
        """A sum of integers as floating point, added to what is there."""
        lanes = self.spec.dot.lanes
        total = load(sums[p][v], lanes, 0)
        if inputs:
            offset = T.cast(self._constant(self.offset, panel, scale, v), f"int32x{lanes}")
            total = total + offset * load(inputs[p], lanes, 0)
        return T.cast(total, f"float32x{lanes}") * self._constant(self.multiplier, panel, scale, v) + before
