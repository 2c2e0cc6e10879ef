"""``distill``: a block's quantized layers are trained to make of their text what the block makes in floating point.

One block and one subnet at a time, as in block-wise reconstruction (Li et al., BRECQ, ICLR 2021): what the block is
given is the text as the packed blocks before it leave it, and what it is to give is the text as it would be in floating
point throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eqnet.lm.given import Given, first_tensor
from eqnet.lm.rounded import Rates, RoundedWeight
from eqnet.packed.tensor import PackedTensor

_RATES = Rates(scales=1e-3, places=1e-2)


@dataclass(frozen=True)
class Distillation:
    """How blocks are trained.

    Attributes:
        steps: of the optimizer, for each block.
        batch: windows of a step.
        rates: of learning.
        seed: of the windows that are drawn.
    """

    steps: int = 60
    batch: int = 4
    rates: Rates = _RATES
    seed: int = 0

    def train(
        self,
        block: nn.Module,
        exact: Mapping[str, Tensor],
        packed: Mapping[str, PackedTensor],
        given: Given,
        wanted: Tensor,
    ) -> dict[str, PackedTensor]:
        """Codes that make of the block what it is in floating point, or ``packed`` if nothing better was found.

        Args:
            block: with weights.
            exact: its layers' weights in floating point, by their names in the block.
            packed: what is to be made better.
            given: to the block, for N windows.
            wanted: what it is to return, [N, T, H].
        """
        layers = {name: RoundedWeight(exact[name], packed[name]) for name in packed}
        training = _Training(block, layers, given, wanted)
        before = training.loss_of(packed)
        training.run(self)
        found = {name: layer.packed() for name, layer in layers.items()}
        return found if training.loss_of(found) < before else dict(packed)


class _Training:
    """A block, and what it is to make of its text."""

    def __init__(self, block: nn.Module, layers: Mapping[str, RoundedWeight], given: Given, wanted: Tensor) -> None:
        self._block, self._layers, self._given, self._wanted = block, layers, given, wanted

    def run(self, how: Distillation) -> None:
        """Takes the steps, at rates that fall along a cosine."""
        count = len(self._wanted)
        generator = torch.Generator().manual_seed(how.seed)

        def loss(_step: int) -> Tensor:
            part = torch.randperm(count, generator=generator)[: how.batch]
            return self._loss({f"{name}.weight": layer() for name, layer in self._layers.items()}, part)

        how.rates.train(self._layers.values(), how.steps, loss)

    @torch.no_grad()
    def loss_of(self, packed: Mapping[str, PackedTensor]) -> float:
        """The mean squared error on all text."""
        weights = {f"{name}.weight": weight.dequantize() for name, weight in packed.items()}
        return sum(len(part) * float(self._loss(weights, part)) for part in self._given.pieces()) / len(self._wanted)

    def _loss(self, weights: Mapping[str, Tensor], part: Tensor) -> Tensor:
        given = self._given.of(part)
        found = functional_call(self._block, dict(weights), given.args, dict(given.kwargs))
        return (first_tensor(found) - self._wanted[part]).square().mean()
