"""Weights that are trained on their codes: what is trained is each weight's place among the codes, and the scales.

A place is in scales, so that a scale that changes takes its weights along, and none of them to another code. Gradients
go straight through the rounding, as in the supernet's own training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

_WITHIN = 0.49
"""Share of a code by which a weight may be off its code and still round to it, with room for what arithmetic rounds."""


class RoundedWeight(nn.Module):
    """One weight. Its groups are rows of ``place``, the last of them filled up with zeros: [rows, groups, size].

    Args:
        exact: in floating point, float32 [rows, cols].
        packed: the codes that it begins with.
    """

    def __init__(self, exact: Tensor, packed: PackedTensor) -> None:
        super().__init__()
        fmt = packed.format
        self._packed, self._size = packed, fmt.group_size or packed.cols
        self._zero_point = packed.zero_points().float()[..., None]
        self._lowest, self._highest = fmt.qmin - self._zero_point, fmt.qmax - self._zero_point
        self.log_scale = nn.Parameter(packed.scale.float().log())
        centred = self._grouped(packed.integers().float()) - self._zero_point
        off = self._grouped(exact) / packed.scale.float()[..., None] - centred
        # At the border of its code, as near to where it was as can be, a weight that error compensation has moved would
        # be taken back to the nearest code by the first step, and all that the compensation was for undone.
        self.place = nn.Parameter(centred + torch.where(off.abs() <= _WITHIN, off, 0.0))

    def forward(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight, rounded to codes, [rows, cols]."""
        found: Tensor = _Rounding.apply(  # type: ignore[no-untyped-call]
            self.place, self.log_scale, self._centred(), self._stored(), dtype
        )
        return found.flatten(1)[:, : self._packed.cols]

    @torch.no_grad()
    def packed(self) -> PackedTensor:
        """What is stored."""
        fmt = self._packed.format
        codes = (self._centred() + self._zero_point).flatten(1)[:, : self._packed.cols].to(torch.int16) - fmt.qmin
        return replace(self._packed, codes=pack(codes, fmt.bits), scale=self._stored().to(self._packed.scale.dtype))

    def _centred(self) -> Tensor:
        """Codes less their zero points."""
        return torch.maximum(self.place.detach().round(), self._lowest).minimum(self._highest)

    def _stored(self) -> Tensor:
        return stored_scale(self.log_scale.detach().exp(), self._packed.scale.dtype)

    def _grouped(self, x: Tensor) -> Tensor:
        return pad(x, (0, -x.shape[1] % self._size)).view(len(x), -1, self._size)


class _Rounding(torch.autograd.Function):
    """``centred · scale``, of which ``place`` and ``log_scale`` are taken to be the origin; one pass each way."""

    @staticmethod
    def forward(
        context: Any, _place: Tensor, _log_scale: Tensor, centred: Tensor, scale: Tensor, dtype: torch.dtype
    ) -> Tensor:
        weight = (centred * scale[..., None]).to(dtype)
        context.save_for_backward(weight, scale)
        return weight

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        weight, scale = context.saved_tensors
        place = gradient * scale[..., None] if context.needs_input_grad[0] else None
        return place, (gradient * weight).sum(2, dtype=torch.float32), None, None, None


def stored_scale(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Positive scales as ``dtype`` holds them, in float32; those below its smallest value become that."""
    limits = torch.finfo(dtype)
    smallest = limits.tiny * limits.eps if dtype == torch.float16 else limits.tiny
    return scale.clamp(smallest, limits.max).to(dtype).float()


@dataclass(frozen=True)
class Rates:
    """How fast rounded weights learn; rates rise over the first steps and then fall along half a cosine.

    Attributes:
        scales: relative to themselves.
        places: in scales of their group; 0 leaves the codes as they are.
        warmup: steps until the rates are full.
    """

    scales: float
    places: float
    warmup: int = 1

    def train(self, weights: Iterable[RoundedWeight], steps: int, loss: Callable[[int], Tensor]) -> None:
        """Takes so many steps of Adam down a loss, which is asked for anew at each, by its number."""
        layers = list(weights)
        groups = [{"params": [layer.log_scale for layer in layers], "lr": self.scales}]
        if self.places:
            groups.append({"params": [layer.place for layer in layers], "lr": self.places})
        for layer in layers:
            layer.place.requires_grad_(bool(self.places))
        optimizer = torch.optim.Adam(groups, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        for step in range(steps):
            with torch.enable_grad():
                value = loss(step)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
