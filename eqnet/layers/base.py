"""What every elastic layer does: hold its quantizers and apply the format that is active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from eqnet.errors import ModelError
from eqnet.formats import LayerFormat
from eqnet.quantizer import Quantizer
from eqnet.ranges import Histogram

T = TypeVar("T", bound="Elastic")


class Elastic(nn.Module):
    """A layer whose weight and input run in any of several formats.

    Concrete layers derive from this class and from the layer that they replace, which becomes one of them; weights
    are shared between all formats.

    Attributes:
        weight: the shared floating-point weight.
        weight_quantizer: over the weight as a matrix of output channels by inputs.
        input_quantizer: over the first input, per tensor; None if the input is never quantized.
        format: what runs now; None runs in floating point.
        observer: while calibrating, collects the values of the input.
        path: dotted name of the layer in its model, for messages.
    """

    weight: Tensor
    weight_quantizer: Quantizer
    input_quantizer: Quantizer | None
    format: LayerFormat | None
    observer: Histogram | None
    path: str

    @classmethod
    def convert(cls: type[T], layer: nn.Module, path: str) -> T:
        """Makes ``layer`` itself elastic, still without quantizers.

        It stays the same object, so that whatever refers to it, be it a plain list in its model, runs it elastic.
        """
        layer.__class__ = cls
        assert isinstance(layer, cls)
        layer.path = path
        layer.format = None
        layer.observer = None
        layer.input_quantizer = None
        return layer

    @staticmethod
    def macs(layer: Any, inputs: Tensor, outputs: Tensor) -> int:
        """Multiply-accumulates of one call, for all samples in it."""
        raise ModelError(f"{type(layer).__name__} does not say what it computes")

    @staticmethod
    def to_matrix(layer: Any, weight: Tensor) -> Tensor:
        """The weight of ``layer`` as [output channels, inputs of one output]."""
        return weight.flatten(1)

    @staticmethod
    def from_matrix(layer: Any, matrix: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of ``to_matrix``, for a weight of ``shape``."""
        return matrix.view(shape)

    @staticmethod
    def channel_axis(layer: Any, outputs: Tensor) -> int | None:
        """The dimension of ``outputs`` along which each row of the matrix gives one entry; None if there is none."""
        raise ModelError(f"{type(layer).__name__} does not say where its output channels are")

    def matrix(self) -> Tensor:
        """The floating-point weight as [output channels, inputs of one output]."""
        return self.to_matrix(self, self.weight)

    def quantized_weight(self) -> Tensor:
        """The weight in the active format; the floating-point one if none is."""
        if self.format is None:
            return self.weight
        return self.from_matrix(self, self.weight_quantizer(self.matrix(), self.format.weight), self.weight.shape)

    def quantized_input(self, x: Tensor) -> Tensor:
        """``x`` in the active format; ``x`` itself if none is, or if the layer is weight-only."""
        if self.observer is not None:
            try:
                self.observer.add(x)
            except ModelError as e:
                raise ModelError(
                    f"layer '{self.path}': its calibration inputs hold inf or NaN; "
                    "check the data and the layers before it"
                ) from e
        if self.format is None or self.format.activation is None or self.input_quantizer is None:
            return x
        quantized: Tensor = self.input_quantizer(x, self.format.activation)
        return quantized


ELASTIC: dict[type[nn.Module], type[Elastic]] = {}
"""Which elastic layer replaces which module; subclasses of a module are not replaced, as they may differ."""


def replaces(*modules: type[nn.Module]) -> Callable[[type[T]], type[T]]:
    """Registers the decorated class as the elastic form of ``modules``."""

    def register(elastic: type[T]) -> type[T]:
        ELASTIC.update(dict.fromkeys(modules, elastic))
        return elastic

    return register


def check_parameters(layer: nn.Module, path: str) -> None:
    """Raises ModelError, naming the layer, if its weight or bias holds inf or NaN or is empty."""
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter.numel() == 0:
            raise ModelError(f"layer '{path}': its {name} of shape {tuple(parameter.shape)} is empty; remove the layer")
        if not torch.isfinite(parameter).all():
            raise ModelError(f"layer '{path}': its {name} holds inf or NaN; train or load the model again")
