"""What programs are built with: one operation after another, each on results of those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from eqnet import _kernels
from eqnet.runtime.convolution import Padding, Pair, Parameters

Bounds = tuple[float, float]
"""What an activation leaves of a value: from the least to the greatest."""


@dataclass(frozen=True)
class Pool:
    """The largest or the mean of some pixels, channel by channel.

    Attributes:
        maximum: the largest; else the mean.
        whole_image: of all pixels, whatever the image's size; then the rest does not count.
        kernel, stride: rows and columns.
        padding: pixels at the top, left, bottom and right, which a maximum never is.
        count_padding: whether a mean counts them as zeros.
    """

    maximum: bool
    whole_image: bool
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    count_padding: bool = False


class Builder(Protocol):
    """Takes the operations of a network; see ``cpp/include/eqnet/program.h`` for what each means.

    Values are numbers from 0, the network's input. Each is a floating-point image [N, channels, height, width], or a
    vector [N, features], which is an image of one pixel. Each method but ``finish`` returns the value that it makes.
    ``convolution`` raises ValueError if it cannot do one. Bounds are those of the activation that follows and is part
    of the operation.
    """

    def convolution(self, x: int, parameters: Parameters, residual: int, bounds: Bounds) -> int:
        """A convolution or linear layer, which codes its input; ``residual`` is added before bounding, -1 if none."""

    def add(self, a: int, b: int, bounds: Bounds) -> int:
        """The sum of two values of one shape."""

    def bound(self, x: int, bounds: Bounds) -> int:
        """An activation alone."""

    def pool(self, x: int, pool: Pool, bounds: Bounds) -> int:
        """Pooling."""

    def concatenate(self, values: Sequence[int]) -> int:
        """All channels of one value after those of another."""

    def flatten(self, x: int) -> int:
        """An image as a vector, channel by channel."""

    def finish(self, result: int) -> None:
        """Declares the result of the network; nothing follows."""


class KernelBuilder:
    """Builds a program of eqnet's own kernels.

    Args:
        channels: of the network's input.
        isa: no better instruction set than this is used; empty for the best.

    Raises:
        ValueError: the processor does not have the instruction set.

    Attributes:
        program: what is being built.
    """

    def __init__(self, channels: int, isa: str = "") -> None:
        self.program = _kernels.Program(channels, isa)

    def convolution(self, x: int, parameters: Parameters, residual: int, bounds: Bounds) -> int:
        return self.program.convolution(x, **parameters.arguments(), residual=residual, bounds=bounds)

    def add(self, a: int, b: int, bounds: Bounds) -> int:
        return self.program.add(a, b, bounds)

    def bound(self, x: int, bounds: Bounds) -> int:
        return self.program.bound(x, bounds)

    def pool(self, x: int, pool: Pool, bounds: Bounds) -> int:
        return self.program.pool(x, **vars(pool), bounds=bounds)

    def concatenate(self, values: Sequence[int]) -> int:
        return self.program.concatenate([*values])

    def flatten(self, x: int) -> int:
        return self.program.flatten(x)

    def finish(self, result: int) -> None:
        self.program.finish(result)
