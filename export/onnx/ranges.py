"""The range of each channel of a layer's result, on calibration inputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs, call

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Range:
    """The least and the largest value of each channel; 0 is between them.

    Attributes:
        low: float32 [channels], at most 0.
        high: float32 [channels], at least 0.
    """

    low: Array
    high: Array

    def clipped(self, lowest: float, highest: float) -> Range:
        """What is left of it after clipping."""
        return Range(np.clip(self.low, min(lowest, 0), highest), np.clip(self.high, lowest, highest))


def channel_ranges(
    packed: PackedModel, names: Collection[str], calibration: Sequence[ExampleInputs]
) -> dict[str, Range]:
    """Runs ``packed`` on ``calibration``; results of the layers ``names`` have their channels in dimension 1."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str, y: Tensor) -> None:
        by_channel = y.detach().float().transpose(0, 1).flatten(1)
        low, high = by_channel.amin(1), by_channel.amax(1)
        if name in seen:
            low, high = torch.minimum(low, seen[name][0]), torch.maximum(high, seen[name][1])
        seen[name] = low, high

    hooks = [
        packed.layers[name].register_forward_hook(lambda _layer, _x, y, name=name: watch(name, y)) for name in names
    ]
    try:
        with torch.no_grad():
            for batch in calibration if names else ():
                call(packed, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: Range(low.clamp(max=0).numpy(), high.clamp(min=0).numpy()) for name, (low, high) in seen.items()}
