"""From floating-point results to all forms in which they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.tir.emit import Argument, Buffer, Expr, bind, load, loop, splat, store, vector
from eqnet.export.tvm.tir.layout import LANES, CodeImage, Coding, Image, Value
from eqnet.runtime.builder import Bounds

Floats = npt.NDArray[np.float32]

ROUNDER = 12582912.0
"""1.5 · 2^23: adding it leaves no bits for fractions, so that the low byte of the sum is the nearest integer, half to
even, of numbers from -256 to 255."""

PER_FORM = 4
"""Numbers of a form in the table: 1 / scale, the least and the largest code less the zero point, the zero point."""


@dataclass(frozen=True)
class Finish:
    """What a result is written as. Two operations with equal ones can share a function.

    Attributes:
        image: of the result.
        codes: of each form.
        floats: whether it is also written in floating point.
        residual: whether floating point is added first.
        scaled: whether results arrive divided by the scale of the one form, which alone is wanted.
    """

    image: Image
    codes: tuple[CodeImage, ...]
    floats: bool
    residual: bool = False
    scaled: bool = False

    @property
    def outputs(self) -> tuple[Argument, ...]:
        """The tensors that are written: codes of each form, then floating point."""
        codes = [Argument(image.bytes, "uint8", by_image=True) for image in self.codes]
        return (*codes, *[Argument(self.image.floats, "float32", by_image=True)][: self.floats])

    @property
    def table(self) -> Argument:
        """The numbers that ``table`` gives."""
        return Argument(PER_FORM * len(self.codes) + 2, "float32")


def finish_of(value: Value) -> Finish:
    """What ``value`` needs."""
    return Finish(value.image, tuple(value.codes(form) for form in value.forms), value.floats)


def finish_of_layer(value: Value, residual: bool) -> Finish:
    """What the result of a convolution needs; its multipliers take over the scale of a form that alone is wanted."""
    scaled = len(value.forms) == 1 and not value.floats and not residual
    return replace(finish_of(value), residual=residual, scaled=scaled)


def table(value: Value) -> Floats:
    """The numbers that writing ``value`` takes, float32 [4 · forms + 2]."""
    rows = [_coding(form.coding, value.bounds) for form in value.forms]
    return np.array([number for row in (*rows, value.bounds) for number in row], np.float32)


def inverse(coding: Coding) -> np.float32:
    """1 / scale."""
    return np.float32(1) / np.float32(coding.scale)


def _coding(coding: Coding, bounds: Bounds) -> tuple[float, ...]:
    # Rounding is monotone: a value between the bounds has a code between theirs.
    codes = np.rint(np.array(bounds, np.float32) / np.float32(coding.scale)) + coding.zero
    low, high = np.clip(codes, 0, coding.levels - 1) - coding.zero
    return float(inverse(coding)), low, high, float(coding.zero)


class Writer:
    """Writes results of one operation from within its function.

    Args:
        finish: in which forms.
        table: the argument of that name.
        outputs: the arguments of that name.
        residual: what is added, if anything.
    """

    def __init__(self, finish: Finish, table: Buffer, outputs: list[Buffer], residual: Buffer | None = None) -> None:
        self.finish = finish
        self.codes = outputs[: len(finish.codes)]
        self._floats = outputs[-1] if finish.floats else None
        self._residual = residual
        self._numbers = [bind(table[i]) for i in range(finish.table.elements)]

    def fill_padding(self, images: Expr) -> None:
        """Writes what surrounds the codes."""
        for f, (image, codes) in enumerate(zip(self.finish.codes, self.codes, strict=True)):
            if not any(image.padding):
                continue
            unit = min(image.image.stride, LANES)
            zero = bind(T.cast(self._numbers[PER_FORM * f + 3], "uint8"))
            width = image.image.size.width * image.image.stride
            with loop(images) as i:
                _fill(codes, i, 0, image.origin, zero, unit)
                if image.row > width:
                    with loop(image.image.size.height - 1) as y:
                        _fill(codes, i, image.origin + y * image.row + width, image.row - width, zero, unit)
                end = image.origin + (image.image.size.height - 1) * image.row + width
                _fill(codes, i, end, image.used - end, zero, unit)

    def write(self, value: Expr, lanes: int, i: Expr, y: Expr, x: Expr, channel: Expr) -> None:
        """Writes ``lanes`` channels of one pixel, from the first channel ``channel``."""
        finish = self.finish
        at = (y * finish.image.size.width + x) * finish.image.stride + channel
        if self._residual is not None:
            value = value + load(self._residual, lanes, i, at)
        value = bind(value)
        if self._floats is not None:
            low, high = (splat(bound, lanes) for bound in self._numbers[-2:])
            store(self._floats, T.min(T.max(value, low), high), lanes, i, at)
        for f, (image, codes) in enumerate(zip(finish.codes, self.codes, strict=True)):
            at = image.origin + y * image.row + x * image.image.stride + channel
            store(codes, self.code(value, f, lanes), lanes, i, at)

    def code(self, value: Expr, form: int, lanes: int) -> Expr:
        """The codes of some values in one form."""
        scale, low, high, zero = (splat(x, lanes) for x in self._numbers[PER_FORM * form : PER_FORM * (form + 1)])
        if not self.finish.scaled:
            value = value * scale
        bounded = T.min(T.max(value, low), high)
        rounded = T.reinterpret(vector("int32", lanes), bounded + splat(T.float32(ROUNDER), lanes))
        return T.cast(rounded, vector("uint8", lanes)) + T.cast(zero, vector("uint8", lanes))


def _fill(codes: Buffer, image: Expr, start: Any, count: int, zero: Expr, unit: int) -> None:
    if count:
        with loop(count // unit) as k:
            store(codes, splat(zero, unit), unit, image, start + k * unit)
