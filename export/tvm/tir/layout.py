"""Where values lie in memory, and in which forms.

Codes are unsigned bytes, floating point is float32, both [images, bytes or floats of one image]. Within an image pixels
follow each other row by row, and each takes ``stride`` elements, its channels first:

    row 0: pixel 0 | pixel 1 | ...      c₀ c₁ c₂ … and up to the stride whatever was left there

Strides are multiples of 16, so that vectors of 16 channels can be written without a mask; nothing reads what is beyond
the channels but by weights that are zero. Only the network's input, of at most 4 channels, is kept denser. Codes have
the padding of the layer that reads them around them, which holds their zero point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eqnet.export.tvm.recording import Convolve, Recording, Size
from eqnet.runtime.builder import Bounds
from eqnet.runtime.convolution import Padding, Parameters

LANES = 16
"""Channels that are written at once."""

SLACK = 64
"""Bytes after the codes of each image that vectors may read."""


def round_up(count: int, unit: int) -> int:
    """The next multiple of ``unit``."""
    return -(-count // unit) * unit


@dataclass(frozen=True)
class Image:
    """The values of one image.

    Attributes:
        size: of it.
        stride: elements from one pixel to the next.
    """

    size: Size
    stride: int

    @property
    def floats(self) -> int:
        """Elements of its floating-point form."""
        return self.size.pixels * self.stride

    @property
    def panels(self) -> int:
        """Vectors of one pixel."""
        return -(-self.size.channels // LANES)


@dataclass(frozen=True)
class CodeImage:
    """The codes of one image, with padding.

    Attributes:
        image: without it.
        padding: pixels at the top, left, bottom and right.
    """

    image: Image
    padding: Padding

    @property
    def row(self) -> int:
        """Bytes from one row to the next."""
        return (self.padding[1] + self.image.size.width + self.padding[3]) * self.image.stride

    @property
    def origin(self) -> int:
        """Where the first pixel that is no padding begins."""
        return self.padding[0] * self.row + self.padding[1] * self.image.stride

    @property
    def used(self) -> int:
        """Bytes of all pixels."""
        return (self.padding[0] + self.image.size.height + self.padding[2]) * self.row

    @property
    def bytes(self) -> int:
        """Bytes from one image to the next."""
        return round_up(self.used + SLACK, SLACK)


@dataclass(frozen=True)
class Coding:
    """How a layer codes its input: clamp(round(x / scale) + zero, 0, levels - 1)."""

    scale: float
    zero: int
    levels: int


@dataclass(frozen=True)
class Form:
    """Codes as some layers read them."""

    coding: Coding
    padding: Padding


def form_of(parameters: Parameters) -> Form:
    """The one that a convolution reads."""
    coding = Coding(parameters.input_scale, parameters.input_zero, parameters.levels)
    return Form(coding, parameters.padding)


@dataclass(frozen=True)
class Value:
    """A value, in all forms that something reads.

    Attributes:
        image: its size and stride.
        bounds: between which all of it lies.
        forms: as codes.
        floats: whether it is also needed in floating point.
    """

    image: Image
    bounds: Bounds
    forms: tuple[Form, ...]
    floats: bool

    def codes(self, form: Form) -> CodeImage:
        """Where codes of one form lie."""
        return CodeImage(self.image, form.padding)


def plan(recording: Recording) -> tuple[Value, ...]:
    """Every value of a network, in the forms that its readers need."""
    forms: list[dict[Form, None]] = [{} for _ in recording.sizes]
    floats = {recording.result}
    for operation in recording.operations:
        reads_floats = operation.inputs
        if isinstance(operation, Convolve):
            forms[operation.inputs[0]][form_of(operation.parameters)] = None
            reads_floats = operation.inputs[1:]
        floats.update(reads_floats)
    bounds: Iterator[Bounds] = iter([(float("-inf"), float("inf")), *(o.bounds for o in recording.operations)])
    return tuple(
        Value(Image(size, _stride(size, i == 0 and i not in floats)), next(bounds), tuple(forms[i]), i in floats)
        for i, size in enumerate(recording.sizes)
    )


def _stride(size: Size, dense: bool) -> int:
    if dense and size.channels <= 4:
        return 1 if size.channels == 1 else 4
    return round_up(size.channels, LANES)
