"""What lies between convolutions: one function for each kind of operation, a vector of 16 channels at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.recording import Operation, Pooled, Size
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
    splat,
    store,
)
from eqnet.export.tvm.tir.finish import Finish, Writer
from eqnet.export.tvm.tir.layout import LANES, Image
from eqnet.runtime.builder import Pool

PARALLEL_FLOATS = 200_000
"""Of one image's result, from which on threads save more than they cost."""


@dataclass(frozen=True)
class Between:
    """An operation on floating point.

    Attributes:
        inputs: what it reads.
        finish: what it writes.
        pool: its parameters, if it is one.
    """

    inputs: tuple[Image, ...]
    finish: Finish
    pool: Pool | None = None

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The tensors that are read, but for the table."""
        return tuple(Argument(image.floats, "float32", by_image=True) for image in self.inputs)


Value = Callable[[Expr, Expr, Expr, Expr], Expr]
"""16 channels of a result, from the number of an image, row, column and first channel."""


def write_pixels(spec: Between, images: Expr, writer: Writer, value: Value) -> None:
    """Writes a loop over all pixels of a result."""
    image = spec.finish.image
    writer.fill_padding(images)
    with loop(images * image.size.height, parallel=image.floats >= PARALLEL_FLOATS) as row:
        i, y = bind(quotient(row, image.size.height)), bind(remainder(row, image.size.height))
        with loop(image.size.width) as x, loop(image.panels) as panel:
            writer.write(value(i, y, x, panel * LANES), LANES, i, y, x, panel * LANES)


def _element(image: Image, y: Expr, x: Expr, channel: Expr) -> Expr:
    return (y * image.size.width + x) * image.stride + channel


def add(spec: Between, images: Expr, inputs: list[Buffer], writer: Writer) -> None:
    """The sum of the inputs."""

    def value(i: Expr, y: Expr, x: Expr, channel: Expr) -> Expr:
        a, b = (load(buffer, LANES, i, _element(spec.inputs[0], y, x, channel)) for buffer in inputs)
        return a + b

    write_pixels(spec, images, writer, value)


def bound(spec: Between, images: Expr, inputs: list[Buffer], writer: Writer) -> None:
    """The input; bounding is part of all writing."""

    def value(i: Expr, y: Expr, x: Expr, channel: Expr) -> Expr:
        return load(inputs[0], LANES, i, _element(spec.inputs[0], y, x, channel))

    write_pixels(spec, images, writer, value)


def pool(spec: Between, images: Expr, inputs: list[Buffer], writer: Writer) -> None:
    """The largest or the mean of some pixels."""
    assert spec.pool is not None  # as of every pooling
    pool, (image,) = spec.pool, spec.inputs
    start = -math.inf if pool.maximum else 0.0

    def value(i: Expr, y: Expr, x: Expr, channel: Expr) -> Expr:
        total = local("float32", LANES)
        store(total, splat(T.float32(start), LANES), LANES, 0)
        (top, rows), (left, columns) = (_window(pool, image.size, axis, at) for axis, at in ((0, y), (1, x)))
        with loop(rows) as r, loop(columns) as c:
            read = load(inputs[0], LANES, i, _element(image, top + r, left + c, channel))
            so_far = load(total, LANES, 0)
            store(total, T.max(so_far, read) if pool.maximum else so_far + read, LANES, 0)
        if pool.maximum:
            return load(total, LANES, 0)
        count = pool.kernel[0] * pool.kernel[1] if pool.count_padding else rows * columns
        divisor = T.float32(count) if isinstance(count, int) else T.cast(count, "float32")
        return load(total, LANES, 0) / splat(divisor, LANES)

    write_pixels(spec, images, writer, value)


def _window(pool: Pool, size: Size, axis: int, at: Expr) -> tuple[Expr, Expr]:
    """The first row or column of the image that a pixel of the result reads, and how many."""
    extent = (size.height, size.width)[axis]
    if pool.whole_image:
        return 0, extent
    first = at * pool.stride[axis] - pool.padding[axis]
    if not pool.padding[axis] and not pool.padding[axis + 2]:
        return first, pool.kernel[axis]
    begin = bind(T.max(first, 0))
    return begin, bind(least(first + pool.kernel[axis], extent) - begin)


def concatenate(spec: Between, images: Expr, inputs: list[Buffer], writer: Writer) -> None:
    """All channels of one input after those of another."""
    image = spec.finish.image

    def copy(i: Expr, row: Buffer) -> None:
        first = 0
        for part, buffer in zip(spec.inputs, inputs, strict=True):
            with loop(image.size.pixels) as p, loop(part.size.channels) as c:
                store(row, buffer[i, p * part.stride + c], 1, p * image.stride + first + c)
            first += part.size.channels

    _gathered(spec, images, writer, copy)


def flatten(spec: Between, images: Expr, inputs: list[Buffer], writer: Writer) -> None:
    """An image as a vector, channel by channel."""
    (image,) = spec.inputs

    def copy(i: Expr, row: Buffer) -> None:
        with loop(image.size.channels) as c, loop(image.size.pixels) as p:
            store(row, inputs[0][i, p * image.stride + c], 1, c * image.size.pixels + p)

    _gathered(spec, images, writer, copy)


def _gathered(spec: Between, images: Expr, writer: Writer, copy: Callable[[Expr, Buffer], None]) -> None:
    """Writes a result whose channels are moved, one by one, before they are written."""
    image = spec.finish.image
    writer.fill_padding(images)
    with loop(images) as i:
        row = scratch(image.floats, "float32")
        copy(i, row)
        with loop(image.size.height) as y, loop(image.size.width) as x, loop(image.panels) as panel:
            value = load(row, LANES, _element(image, y, x, panel * LANES))
            writer.write(value, LANES, i, y, x, panel * LANES)


Between_ = Callable[[Between, Expr, list[Buffer], Writer], None]

BODIES: dict[str, Between_] = {
    "Add": add,
    "Bound": bound,
    "Pooled": pool,
    "Concatenate": concatenate,
    "Flatten": flatten,
}
"""What writes each kind of operation."""


def between(operation: Operation, inputs: tuple[Image, ...], finish: Finish) -> Between:
    """What there is to write."""
    return Between(inputs, finish, operation.pool if isinstance(operation, Pooled) else None)
