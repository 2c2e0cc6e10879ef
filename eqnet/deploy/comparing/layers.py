"""Which layer is not what it should be.

Each layer of B is given what the layers of A before it returned, so that an error in one layer says nothing of those
that follow it. What remains between two right implementations is rounding: sums in another order; scales that batch
norm was folded into, rounded once more to 16 bits; results that an artifact holds as codes of 8 bits, and says so; and
now and then, where what lies between two layers is computed otherwise, a value close to the middle of two codes that
goes to the other one. Such a code moves the results of one position, in every channel; an error in a scale, a zero
point, a weight or a bias moves those of one channel, at every position, and one in how the input is quantized all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.deploy.comparing.figures import Figures, Sums
from eqnet.packed.record import LayerRecord, Record
from eqnet.runtime.runner import ResultCodes

ROUNDING = 2.0**-9
"""What rounding moves a result by at most, as a share of the largest one of its channel: four times what it does to a
scale of 16 bits. Sums of 32 bits in another order are a thousand times closer."""

CANCELLING = 2.0**-17
"""The same as a share of the largest result of the layer, for channels whose sums are small as their terms cancel:
32-bit rounding of some thousand terms."""

TIES = 1 / 16
"""Share of the results of a channel that may differ by more, as a code in their input fell to the other side of a tie.
That happens to far fewer than one code in a thousand; an error moves all results of a channel, or half of them where
only part of its inputs is not 0."""

_EXPONENTS = 256
"""Differences are counted by their power of two, from 2^-128 to 2^127: what 32-bit numbers have."""


@dataclass(frozen=True)
class LayerFigures:
    """One layer of B beside the same one of A, on the same input.

    Attributes:
        name: of the layer.
        record: its formats in A, or in B if A does not say them.
        figures: of its results.
        differing: of the channel where most do, the share of results that differ by more than rounding.
        unseen: layers just before it that only one of both lets one see: what differs in them differs here.
    """

    name: str
    record: LayerRecord | None
    figures: Figures
    differing: float
    unseen: tuple[str, ...] = ()

    @property
    def departs(self) -> bool:
        """Whether this is more than rounding and ties."""
        return self.differing > TIES


class LayerSums:
    """Adds up batches of the results of one layer.

    Args:
        name: of the layer.
        record: of the layer, if it is known.
        codes: in which an artifact holds its results; None if it does not round them.
    """

    def __init__(self, name: str, record: LayerRecord | None, codes: ResultCodes | None = None) -> None:
        self.name, self._record, self._codes = name, record, codes
        self._sums = Sums()
        self._largest: Tensor | None = None  # [channels]
        self._counts: Tensor | None = None  # [channels, exponents of a difference]

    def given(self, result: Tensor) -> Tensor:
        """What those that follow the layer in B are to read, if ``result`` is that of A."""
        return result.relu() if self._codes is not None and self._codes.without_negative else result

    def _clipped(self, results: Tensor) -> Tensor:
        """``results`` within what the codes of the artifact reach; as they are without such codes."""
        return results if self._codes is None else self._codes.clipped(results, self._axis(results))

    def add(self, a: Tensor, b: Tensor) -> None:
        """Adds a batch: two tensors of one shape."""
        a, b = self._clipped(a.float()), self._clipped(b.float())
        self._sums.add(a, b)
        if not a.numel():
            return
        a, b = (results.movedim(self._axis(results), 0).flatten(1) for results in (a, b))
        largest = a.abs().amax(1)
        exponents = _exponents(a - b)
        counts = torch.zeros(len(a), _EXPONENTS, dtype=torch.int64)
        counts.scatter_add_(1, exponents, torch.ones_like(exponents))
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        self._counts = counts if self._counts is None else self._counts + counts

    def _axis(self, results: Tensor) -> int:
        """The dimension of the channels."""
        # The weight of a convolution has as many dimensions more than a linear layer's as its results have positions.
        positions = len(self._record.shape) - 2 if self._record is not None else 0
        return max(results.ndim - 1 - positions, 0)

    @property
    def count(self) -> int:
        """Results so far."""
        return int(self._counts.sum()) if self._counts is not None else 0

    @property
    def figures(self) -> LayerFigures:
        """Of all batches so far; what differs by more than rounding does so by more than its next power of two."""
        most = 0.0
        if self._counts is not None and self._largest is not None:
            tolerance = torch.maximum(ROUNDING * self._largest, CANCELLING * self._largest.max())
            if self._codes is not None:
                tolerance = torch.maximum(tolerance, self._codes.step)
            beyond = torch.arange(_EXPONENTS)[None] > _exponents(tolerance)[:, None]
            most = ((self._counts * beyond).sum(1) / self._counts.sum(1)).max().item()
        return LayerFigures(self.name, self._record, self._sums.figures, most)


def _exponents(values: Tensor) -> Tensor:
    """The least e with |value| < 2^(e − 128): int64 from 0, that of 0, to 255, that of inf and NaN."""
    exponents = torch.frexp(values).exponent.long() + _EXPONENTS // 2
    exponents = torch.where(values == 0, 0, exponents.clamp(1, _EXPONENTS - 2))
    return torch.where(values.isfinite(), exponents, _EXPONENTS - 1)


def layer_record(name: str, *records: Record | None) -> LayerRecord | None:
    """The first that there is of a layer, or of the layer whose second or later call ``name`` is of."""
    known: list[Mapping[str, LayerRecord]] = [record.layers for record in records if record is not None]
    layer = name.partition("#")[0]
    return next((layers[layer] for layers in known if layer in layers), None)
