"""The operations of a packed convolutional network as a list of records, for whoever writes them as code."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from eqnet.packed.model import PackedModel
from eqnet.runtime.builder import Bounds, Pool
from eqnet.runtime.convolution import Parameters
from eqnet.runtime.lowering import UNBOUNDED
from eqnet.runtime.program import lower

MAX_INPUTS = 32768
"""Of one output: 255 · 255 of each fit into the 32 bits of a sum."""


class Size(NamedTuple):
    """Of an image; vectors are images of one pixel."""

    channels: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.height * self.width


@dataclass(frozen=True)
class Operation:
    """One step of a network.

    Attributes:
        inputs: the values that it reads.
        bounds: what the activation that is part of it leaves.
    """

    inputs: tuple[int, ...]
    bounds: Bounds

    def size(self, inputs: Sequence[Size]) -> Size:
        """That of the result, from those of the inputs."""
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Convolve(Operation):
    """A convolution or linear layer, of codes; a second input is a residual, added before bounding."""

    parameters: Parameters

    def size(self, inputs: Sequence[Size]) -> Size:
        p, (_, height, width) = self.parameters, inputs[0]
        top, left, bottom, right = p.padding
        rows = (height + top + bottom - p.dilation[0] * (p.kernel[0] - 1) - 1) // p.stride[0] + 1
        columns = (width + left + right - p.dilation[1] * (p.kernel[1] - 1) - 1) // p.stride[1] + 1
        return Size(p.channels[1], rows, columns)


@dataclass(frozen=True)
class Add(Operation):
    """The sum of two values of one size."""


@dataclass(frozen=True)
class Bound(Operation):
    """An activation alone."""


@dataclass(frozen=True)
class Pooled(Operation):
    """The largest or the mean of some pixels."""

    pool: Pool

    def size(self, inputs: Sequence[Size]) -> Size:
        channels, height, width = inputs[0]
        if self.pool.whole_image:
            return Size(channels, 1, 1)
        top, left, bottom, right = self.pool.padding
        rows = (height + top + bottom - self.pool.kernel[0]) // self.pool.stride[0] + 1
        return Size(channels, rows, (width + left + right - self.pool.kernel[1]) // self.pool.stride[1] + 1)


@dataclass(frozen=True)
class Concatenate(Operation):
    """All channels of one value after those of another."""

    def size(self, inputs: Sequence[Size]) -> Size:
        return inputs[0]._replace(channels=sum(x.channels for x in inputs))


@dataclass(frozen=True)
class Flatten(Operation):
    """An image as a vector, channel by channel."""

    def size(self, inputs: Sequence[Size]) -> Size:
        return Size(inputs[0].channels * inputs[0].pixels, 1, 1)


@dataclass(frozen=True)
class Recording:
    """A network for images of one size.

    Attributes:
        operations: in order; the result of the i-th is value i + 1, and value 0 is the network's input.
        sizes: of every value.
        result: the value that the network returns.
        vector: whether it is returned as [N, features].
    """

    operations: tuple[Operation, ...]
    sizes: tuple[Size, ...]
    result: int
    vector: bool


class Recorder:
    """A ``Builder`` that writes down what it is told.

    Args:
        size: of the network's input.

    Attributes:
        operations: so far.
        sizes: of the input and of each operation's result.
        result: None until ``finish``.
    """

    def __init__(self, size: Size) -> None:
        self.operations: list[Operation] = []
        self.sizes = [size]
        self.result: int | None = None

    def _add(self, operation: Operation) -> int:
        self.operations.append(operation)
        self.sizes.append(operation.size([self.sizes[x] for x in operation.inputs]))
        return len(self.operations)

    def convolution(self, x: int, parameters: Parameters, residual: int, bounds: Bounds) -> int:
        inputs = parameters.weight.shape[1]
        if inputs > MAX_INPUTS:
            raise ValueError(f"an output with {inputs} inputs; sums in 32 bits hold {MAX_INPUTS}")
        return self._add(Convolve((x,) if residual < 0 else (x, residual), bounds, parameters))

    def add(self, a: int, b: int, bounds: Bounds) -> int:
        return self._add(Add((a, b), bounds))

    def bound(self, x: int, bounds: Bounds) -> int:
        return self._add(Bound((x,), bounds))

    def pool(self, x: int, pool: Pool, bounds: Bounds) -> int:
        return self._add(Pooled((x,), bounds, pool))

    def concatenate(self, values: Sequence[int]) -> int:
        return self._add(Concatenate(tuple(values), UNBOUNDED))

    def flatten(self, x: int) -> int:
        return self._add(Flatten((x,), UNBOUNDED))

    def finish(self, result: int) -> None:
        self.result = result


def record(packed: PackedModel, example: Tensor) -> Recording:
    """All operations of a packed network.

    Args:
        packed: what ``eqnet.pack`` or ``eqnet.load`` returned.
        example: one batch of its input, float32 [N, channels, height, width] or [N, features].

    Raises:
        UnsupportedError: the network does something that has no integer form; the message names it.
    """
    channels, height, width = itertools.islice(itertools.chain(example.shape[1:], (1, 1)), 3)
    recorder = Recorder(Size(channels, height, width))
    shape = lower(packed, example, recorder)
    assert recorder.result is not None  # lower calls finish
    return Recording(tuple(recorder.operations), tuple(recorder.sizes), recorder.result, vector=len(shape) == 2)
