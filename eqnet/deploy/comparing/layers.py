"""Which layer is not what it should be.

Each layer of B is given what the layers of A before it returned, so that an error in one layer says nothing of those
that follow it. What remains between two right implementations is rounding: sums in another order; scales that batch
norm was folded into, rounded once more to 16 bits; and now and then, where what lies between two layers is computed
otherwise, a value close to the middle of two codes that goes to the other one. Such a code moves the results of one
position, in every channel; an error in a scale, a zero point, a weight or a bias moves those of one channel, at every
position, and one in how the input is quantized all.

An artifact may round more than the packed model between layers, sums to 8 bits for example, so that nearly all results
move a little; so they do behind a layer whose results cannot be seen, and thus not be given. Rounding moves them up as
often as down, and an error one way: there, b is fitted by slope · a + offset in each channel, and the error is what
slope and offset make of a.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.deploy.comparing.figures import Figures, Sums
from eqnet.packed.record import LayerRecord, Record

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

SYSTEMATIC = 1 / 32
"""Of an artifact that rounds more: what slope and offset may add to the results of a channel, as a share of their size.
Rounding to 8 bits adds less than a hundredth, and averages out."""

NOISE = 1 / 4
"""Likewise what is left over: results of inputs of 2 bits move by so much if these are made of values of 8 bits."""

SMALL = 1 / 32
"""A channel is taken to be at least so large, as a share of the layer's results: what lies below is noise."""

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
        systematic: of the channel where it is most, what a slope and an offset add to the results, as a share of them.
        noise: of the channel where it is most, what is left over, likewise.
        approximate: whether an artifact rounds more than the packed model before this layer.
        unseen: layers just before it that only one of both lets one see: what differs in them differs here.
    """

    name: str
    record: LayerRecord | None
    figures: Figures
    differing: float
    systematic: float
    noise: float
    approximate: bool
    unseen: tuple[str, ...] = ()

    @property
    def departs(self) -> bool:
        """Whether this is more than rounding and ties."""
        if self.approximate or self.unseen:  # what is not seen is not given either: its rounding reaches this layer
            return not (self.systematic <= SYSTEMATIC and self.noise <= NOISE)  # NaN departs
        return self.differing > TIES


class LayerSums:
    """Adds up batches of the results of one layer.

    Args:
        name: of the layer.
        record: of the layer, if it is known.
        approximate: whether an artifact rounds more than the packed model before it.
    """

    def __init__(self, name: str, record: LayerRecord | None, approximate: bool = False) -> None:
        self.name, self._record, self._approximate = name, record, approximate
        self.count = 0
        self._sums = Sums()
        self._largest = torch.zeros(0)  # [channels]
        self._exponents = torch.zeros(0)  # [channels, exponents of a difference]
        self._moments = torch.zeros(0)  # [5, channels]: of a, b − a, a², (b − a)², a (b − a)

    def add(self, a: Tensor, b: Tensor) -> None:
        """Adds a batch: two tensors of one shape."""
        a, b = a.float(), b.float()
        self._sums.add(a, b)
        if not a.numel():
            return
        a, b = (results.movedim(self._axis(results), 0).flatten(1) for results in (a, b))
        exponents = _exponents(a - b)
        counts = torch.zeros(len(a), _EXPONENTS, dtype=torch.int64)
        counts.scatter_add_(1, exponents, torch.ones_like(exponents))
        x, d = a.double(), b.double() - a.double()
        moments = torch.stack([part.sum(1) for part in (x, d, x * x, d * d, x * d)])
        first = not self.count
        self._largest = a.abs().amax(1) if first else torch.maximum(self._largest, a.abs().amax(1))
        self._exponents = counts if first else self._exponents + counts
        self._moments = moments if first else self._moments + moments
        self.count += a.shape[1]

    def _axis(self, results: Tensor) -> int:
        """The dimension of the channels."""
        # The weight of a convolution has as many dimensions more than a linear layer's as its results have positions.
        positions = len(self._record.shape) - 2 if self._record is not None else 0
        return max(results.ndim - 1 - positions, 0)

    @property
    def figures(self) -> LayerFigures:
        """Of all batches, of which there is one at least."""
        systematic, noise = self._fit()
        differing = self._differing()
        return LayerFigures(
            self.name, self._record, self._sums.figures, differing, systematic, noise, self._approximate
        )

    def _differing(self) -> float:
        """What differs by more than rounding does so by more than its next power of two."""
        tolerance = torch.maximum(ROUNDING * self._largest, CANCELLING * self._largest.max())
        beyond = torch.arange(_EXPONENTS)[None] > _exponents(tolerance)[:, None]
        return float(((self._exponents * beyond).sum(1) / self.count).max())

    def _fit(self) -> tuple[float, float]:
        """What slope and offset add, and what is left over; NaN if a result is none."""
        a, d, aa, dd, ad = self._moments / self.count
        size = aa.sqrt().clamp(min=max(SMALL * float(aa.mean().sqrt()), torch.finfo(torch.float32).tiny))
        variance = (aa - a * a).clamp(min=0)
        slope = torch.where(variance > 0, (ad - a * d) / variance, 0.0)  # of the difference
        fitted = d * d + slope * slope * variance
        left = (dd - fitted).clamp(min=0)
        return float((fitted.sqrt() / size).max()), float((left.sqrt() / size).max())


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
