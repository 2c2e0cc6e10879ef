"""Scales and zero points of groups of weights: from their extremes, or searched for the least squared error.

Groups are columns here: ``x`` [g, n] holds n groups of g weights each, so that what is done for one group is done for
all of them at once, n wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.formats import Format

CHUNK = 1 << 16
"""Elements that are searched at a time: few enough to stay in the cache of a core."""

_FINEST = {2: 0.996, 3: 0.586, 4: 0.335, 5: 0.188, 6: 0.104, 7: 0.057, 8: 0.031}
"""By bits, the step that loses least of values of a normal distribution, in its standard deviations (Max, 1960)."""

_MARGIN = 0.8
"""The search goes down to this share of that step: tails of weights are as heavy as those of a normal, or heavier."""

_TINY = 1e-30
"""Far below any sum of squares of codes; keeps a quotient finite where all of them are 0."""

_STEPS = 10
_REFITS = 2
_NEAR = (0.94, 1.0, 1.06)
"""Factors of the best scale with which the zero points beside the best are tried."""


@dataclass(frozen=True)
class Range:
    """What n groups share, each.

    Attributes:
        scale: positive, values of the type in which they are stored, float32 [n].
        zero_point: integers from ``qmin`` to ``qmax``, 0 if symmetric, float32 [n].
    """

    scale: Tensor
    zero_point: Tensor


@dataclass(frozen=True)
class Lanes:
    """The codes that each of n groups may have; formats may differ in bits, but all or none are symmetric.

    Attributes:
        lowest, highest: codes, float32 [n].
        finest: the scale, in standard deviations, below which a search need not go, float32 [n].
        symmetric: whether the zero point is 0.
    """

    lowest: Tensor
    highest: Tensor
    finest: Tensor
    symmetric: bool

    @classmethod
    def of(cls, formats: Sequence[Format], each: int) -> Lanes:
        """``each`` groups of every format, one format after the other."""
        limits = [[fmt.qmin, fmt.qmax, _MARGIN * _FINEST[fmt.bits]] for fmt in formats]
        lowest, highest, finest = torch.tensor(limits, dtype=torch.float32).T.repeat_interleave(each, 1)
        return cls(lowest, highest, finest, formats[0].symmetric)

    def __getitem__(self, part: slice) -> Lanes:
        return Lanes(self.lowest[part], self.highest[part], self.finest[part], self.symmetric)


def stored_scale(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Positive scales as ``dtype`` holds them, in float32; those below its smallest value become that."""
    limits = torch.finfo(dtype)
    smallest = limits.tiny * limits.eps if dtype == torch.float16 else limits.tiny
    return scale.clamp(smallest, limits.max).to(dtype).float()


def full_range(x: Tensor, lanes: Lanes, dtype: torch.dtype) -> Range:
    """From the extremes of the weights: absmax / (2^(b-1) - 1) if symmetric, else (max - min) / (2^b - 1).

    The range of an asymmetric format includes 0, so that the zero point is one of its codes. A group of zeros has
    scale 1.

    Args:
        x: float32 [g, n].
        lanes: of the n groups.
        dtype: in which scales are stored.

    Raises:
        ModelError: a scale is too large for ``dtype``.
    """
    low, high = x.amin(0).clamp_(max=0), x.amax(0).clamp_(min=0)
    scale = (torch.maximum(high, -low) if lanes.symmetric else high - low) / lanes.highest
    if float(scale.max()) > torch.finfo(dtype).max:
        raise ModelError(
            f"its weight reaches {float(x.abs().max()):.3g}, which takes a scale of {float(scale.max()):.3g}: too "
            f"large for {str(dtype).removeprefix('torch.')}; take scale=fp32"
        )
    scale = stored_scale(torch.where(scale > 0, scale, 1.0), dtype)
    if lanes.symmetric:
        return Range(scale, torch.zeros_like(scale))
    return Range(scale, torch.minimum((-low / scale).round_(), lanes.highest))


def searched_range(x: Tensor, lanes: Lanes, dtype: torch.dtype, importance: Tensor | None = None) -> Range:
    """The range of least ``Σ importance · (x - dequantized x)²``, of those that the search comes by.

    Scales from the full range down to the step that suits a normal distribution are tried. To the codes that each
    gives belongs a best scale in closed form, ``Σ h·x·c / Σ h·c²`` with c the codes less their zero point, which is
    what is compared. Around the best of them, neighbouring zero points are tried. At last the scale is rounded to what
    is stored, and the full range itself competes with it, so that weights which already are on a grid stay on it.

    Args:
        x: float32 [g, n].
        lanes: of the n groups.
        dtype: in which scales are stored.
        importance: non-negative, float32 [g]; 1 for all if None, or if it is 0 for all.

    Raises:
        ModelError: a scale is too large for ``dtype``.
    """
    size, count = x.shape
    mean = 0.0 if importance is None else float(importance.mean())
    h = importance / mean if importance is not None and mean > 0 else torch.ones(size)
    width = max(1, CHUNK // size)
    bounds = [slice(start, min(start + width, count)) for start in range(0, count, width)]
    parts = [_search(x[:, part].contiguous(), lanes[part], dtype, h) for part in bounds]
    return Range(torch.cat([part.scale for part in parts]), torch.cat([part.zero_point for part in parts]))


def _search(x: Tensor, lanes: Lanes, dtype: torch.dtype, h: Tensor) -> Range:
    full = full_range(x, lanes, dtype)
    search = _Search(x, lanes, h)
    tightest = _tightest(x, lanes, full)
    finest = torch.minimum(lanes.finest * x.std(0, correction=0), 0.95 * tightest)
    ratio = (finest / tightest).clamp_(min=1e-3).pow_(1 / (_STEPS - 1))
    scale = tightest
    for _ in range(_STEPS):
        search.fit(scale, full.zero_point)
        scale = scale * ratio
    if not lanes.symmetric:
        near, zero_point = search.scale, search.zero_point
        for shift in (-1.0, 1.0):
            shifted = torch.minimum((zero_point + shift).clamp_(min=0), lanes.highest)
            for factor in _NEAR:
                search.fit(near * factor, shifted)
    final = _Final(x, lanes, h, full)
    for _ in range(_REFITS):
        final.offer(Range(stored_scale(search.scale, dtype), search.zero_point))
        search.fit(search.scale, search.zero_point)
    final.offer(Range(stored_scale(search.scale, dtype), search.zero_point))
    return final.best


def _tightest(x: Tensor, lanes: Lanes, full: Range) -> Tensor:
    """The smallest scale that clips nothing; the symmetric range reaches one code further down than up."""
    if not lanes.symmetric:
        return full.scale
    scale = torch.maximum(x.amax(0) / lanes.highest, x.amin(0) / lanes.lowest)
    return torch.where(scale > 0, scale, full.scale)


class _Search:
    """The best range so far, each scale refitted to the codes that it gave."""

    def __init__(self, x: Tensor, lanes: Lanes, h: Tensor) -> None:
        self._x, self._hx, self._h, self._lanes = x, x * h[:, None], h, lanes
        self._codes, self._products = torch.empty_like(x), torch.empty_like(x)
        self._gain = x.new_zeros(x.shape[1])
        self.scale, self.zero_point = x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])

    def fit(self, scale: Tensor, zero_point: Tensor) -> None:
        """Takes ``scale``, refitted, and ``zero_point`` for all groups that lose less with them."""
        lowest, highest = self._lanes.lowest - zero_point, self._lanes.highest - zero_point
        codes = torch.div(self._x, scale, out=self._codes).round_().clamp_(lowest, highest)
        product = torch.mul(self._hx, codes, out=self._products).sum(0)
        square = (self._h @ torch.mul(codes, codes, out=self._products)).add_(_TINY)
        fitted = product / square
        # The error of the fitted scale is Σ h·x² less this, which is never negative: codes have the signs of weights.
        gain = product.mul_(fitted)
        better = gain > self._gain
        self._gain = torch.maximum(gain, self._gain)
        self.scale = torch.where(better, fitted, self.scale)
        self.zero_point = torch.where(better, zero_point, self.zero_point)


class _Final:
    """The best of ranges as they are stored, compared by what they lose."""

    def __init__(self, x: Tensor, lanes: Lanes, h: Tensor, start: Range) -> None:
        self._x, self._h, self._lanes = x, h, lanes
        self.best, self._loss = start, self._loss_of(start)

    def offer(self, other: Range) -> None:
        """Takes those groups of ``other`` that lose less."""
        loss = self._loss_of(other)
        better = loss < self._loss
        self._loss = torch.minimum(loss, self._loss)
        self.best = Range(
            torch.where(better, other.scale, self.best.scale),
            torch.where(better, other.zero_point, self.best.zero_point),
        )

    def _loss_of(self, a: Range) -> Tensor:
        lowest, highest = self._lanes.lowest - a.zero_point, self._lanes.highest - a.zero_point
        codes = (self._x / a.scale).round_().clamp_(lowest, highest)
        return self._h @ codes.mul_(a.scale).sub_(self._x).square_()
