"""Tensor expressions that packed layers are made of, for processors of any kind: a pass gives them their loops."""

from __future__ import annotations

import math
from typing import Any

from tvm import te, tirx
from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.layers.geometry import Geometry
from eqnet.export.tvm.layers.panels import Panels
from eqnet.export.tvm.layers.unpacking import Unpacker
from eqnet.formats import Format

Tensor = Any
"""A tensor of a tensor expression."""

Expr = Any


def codes(x: Tensor, fmt: Format, scale: float, zero: int) -> Tensor:
    """``x`` quantized: codes less their zero point, int16."""

    def code(*at: Expr) -> Expr:
        rounded = T.nearbyint(x(*at) / T.float32(scale)) + T.float32(zero)
        bounded = T.max(T.min(rounded, T.float32(fmt.qmax)), T.float32(fmt.qmin))
        return T.Cast("int16", bounded - T.float32(zero))

    return te.compute(x.shape, code, name="codes")


def rows(indices: Tensor, panels: Panels, *arrays: Tensor) -> Tensor:
    """Rows of a packed matrix in floating point, [..., cols]; indices beyond the matrix are taken for the nearest."""
    weight = Unpacker(panels, arrays)
    integer = indices.dtype

    def element(*at: Expr) -> Expr:
        *where, column = at
        row = T.max(T.min(indices(*where), tirx.const(panels.rows - 1, integer)), tirx.const(0, integer))
        return weight.element(row, column)

    return te.compute((*indices.shape, panels.cols), element, name="rows")


def matrix(panels: Panels, *arrays: Tensor) -> Tensor:
    """A packed matrix in floating point, [rows, cols]."""
    weight = Unpacker(panels, arrays)
    return te.compute((panels.rows, panels.cols), weight.element, name="matrix")


def patches(x: Tensor, geometry: Geometry) -> Tensor:
    """The inputs of each output of a convolution of one group: [N, *outputs, channels · kernel]."""
    around = _surrounded(x, geometry)
    volume = math.prod(geometry.kernel)

    def element(n: Expr, *at: Expr) -> Expr:
        *outputs, column = at
        taps = _unravelled(column % volume, geometry.kernel)
        return around(n, column // volume, *geometry.read_at(outputs, taps))

    outputs = geometry.outputs(x.shape[2:])
    return te.compute((x.shape[0], *outputs, x.shape[1] * volume), element, name="patches")


def convolved(
    x: Tensor, geometry: Geometry, panels: Panels, input_scale: float | None, biased: bool, *arrays: Tensor
) -> Tensor:
    """A convolution of any number of groups, [N, rows of the matrix, *outputs], one product after the other.

    Args:
        x: [N, channels, ...]: float32, or codes less their zero point.
        geometry: of the convolution.
        panels: of the weight.
        input_scale: of the codes; None for floating point.
        biased: whether the last of the arrays is a bias, float32 [rows].
        arrays: those of the panels, then the bias.
    """
    weight, around = Unpacker(panels, arrays), _surrounded(x, geometry)
    channels, outputs_of_group = x.shape[1] // geometry.groups, panels.rows // geometry.groups
    exact = input_scale is not None and panels.group >= panels.cols
    kind = "int32" if exact else "float32"

    def value(row: Expr, column: Expr) -> Expr:
        return weight.integer(row, column, 0) if exact else weight.element(row, column)

    unpacked = te.compute((panels.rows, panels.cols), value, name="weight")
    axes = [te.reduce_axis((0, size), name=f"k{i}") for i, size in enumerate((channels, *geometry.kernel))]

    def products(n: Expr, row: Expr, *outputs: Expr) -> Expr:
        channel, *taps = axes
        column = channel
        for tap, size in zip(taps, geometry.kernel, strict=True):
            column = column * size + tap
        at = geometry.read_at(outputs, taps)
        read = around(n, row // outputs_of_group * channels + channel, *at)
        return te.sum(T.Cast(kind, read) * unpacked(row, column), axis=axes)

    shape = (x.shape[0], panels.rows, *geometry.outputs(x.shape[2:]))
    sums = te.compute(shape, products, name="sums")

    def scaled(n: Expr, row: Expr, *at: Expr) -> Expr:
        result = T.Cast("float32", sums(n, row, *at))
        if exact:
            result = result * weight.scale(row, 0, 0)
        if input_scale is not None:
            result = result * T.float32(input_scale)
        return result + arrays[-1](row) if biased else result

    return te.compute(shape, scaled, name="scaled")


def _surrounded(x: Tensor, geometry: Geometry) -> Tensor:
    """``x`` as the kernel slides over it: with its padding around it, and zeros between its elements if transposed."""
    if geometry.reads_plainly:
        return x
    sizes = x.shape[2:]

    def element(n: Expr, channel: Expr, *at: Expr) -> Expr:
        positions, inside = geometry.source(at, sizes)
        zero = tirx.const(0, x.dtype)
        return x(n, channel, *positions) if inside is None else T.if_then_else(inside, x(n, channel, *positions), zero)

    return te.compute((*x.shape[:2], *geometry.surrounded(sizes)), element, name="surrounded")


def _unravelled(index: Expr, sizes: tuple[int, ...]) -> list[Expr]:
    """The digits of a number in row-major order."""
    digits = []
    for size in reversed(sizes):
        digits.append(index % size)
        index = index // size
    return digits[::-1]
