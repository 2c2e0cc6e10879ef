"""``distill``: a block's quantized layers are trained to make of their text what the block makes in floating point.

That is the supernet's own training (LSQ's gradients, straight through the rounding), one block and one subnet at a
time, as in block-wise reconstruction (Li et al., BRECQ, ICLR 2021): what the block is given is the text as the packed
blocks before it leave it, and what it is to give is the text as it would be in floating point throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eqnet.lm.given import Given, first_tensor
from eqnet.packed.tensor import PackedTensor
from eqnet.quantizer import Quantizer

_WITHIN = 0.49
"""Share of a code by which a weight may be off its code and still round to it."""


@dataclass(frozen=True)
class Distillation:
    """How blocks are trained.

    Attributes:
        steps: of the optimizer, for each block.
        batch: windows of a step.
        rate: of learning, of scales (relative to themselves) and zero points (in codes).
        weights: whether weights are trained, too, so that codes move to where their block wants them.
        weight_rate: of learning, of weights, in scales of their group.
        seed: of the windows that are drawn.
    """

    steps: int = 60
    batch: int = 4
    rate: float = 1e-3
    weights: bool = True
    weight_rate: float = 2e-2
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
        with torch.enable_grad():
            layers = {name: _Layer.of(exact[name], packed[name]) for name in packed}
            training = _Training(block, layers, given, wanted)
            before = training.loss_of(packed)
            training.run(self)
        found = {name: layer.packed() for name, layer in layers.items()}
        return found if training.loss_of(found) < before else dict(packed)


class _Layer(nn.Module):
    """The quantizer of one weight, started at codes that are there."""

    def __init__(self, packed: PackedTensor, quantizer: Quantizer, weight: Tensor, unit: Tensor) -> None:
        super().__init__()
        self.format, self.quantizer = packed.format, quantizer
        self.moved = nn.Parameter(torch.zeros_like(weight))  # in scales
        self.register_buffer("start", weight)
        self.register_buffer("unit", unit)

    @classmethod
    def of(cls, exact: Tensor, packed: PackedTensor) -> _Layer:
        """Weights where they were, but within reach of their codes."""
        fmt = packed.format
        quantizer = Quantizer([fmt], packed.rows, packed.cols, packed.scale.dtype)
        codes, zero_point = packed.integers(), packed.zero_points()
        with torch.no_grad():
            quantizer.log_scale[str(fmt)].copy_(packed.scale.float().log())
            if not fmt.symmetric:
                quantizer.zero_point[str(fmt)].copy_(zero_point)
        scale, shift = quantizer.expanded(fmt, packed.cols)
        centred = codes.float() - shift
        off = (exact / scale - centred).clamp(-_WITHIN, _WITHIN)
        return cls(packed, quantizer, (centred + off) * scale, scale.expand_as(exact).clone())

    def weight(self) -> Tensor:
        """In floating point, before it is rounded."""
        return self.get_buffer("start") + self.moved * self.get_buffer("unit")

    def forward(self) -> Tensor:
        """The weight, rounded to codes."""
        found: Tensor = self.quantizer(self.weight(), self.format)
        return found

    def packed(self) -> PackedTensor:
        """What is stored."""
        return PackedTensor.of(self.weight().detach(), self.quantizer, self.format)


class _Training:
    """A block, and what it is to make of its text."""

    def __init__(self, block: nn.Module, layers: Mapping[str, _Layer], given: Given, wanted: Tensor) -> None:
        self._block, self._layers, self._given, self._wanted = block, layers, given, wanted

    def run(self, how: Distillation) -> None:
        """Takes the steps, at rates that fall along a cosine."""
        count = len(self._wanted)
        quantizers = [p for layer in self._layers.values() for p in layer.quantizer.parameters()]
        groups = [{"params": quantizers, "lr": how.rate}]
        if how.weights:
            groups.append({"params": [layer.moved for layer in self._layers.values()], "lr": how.weight_rate})
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / how.steps))
        )
        generator = torch.Generator().manual_seed(how.seed)
        for _ in range(how.steps):
            part = torch.randperm(count, generator=generator)[: how.batch]
            loss = self._loss({f"{name}.weight": layer() for name, layer in self._layers.items()}, part)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def loss_of(self, packed: Mapping[str, PackedTensor]) -> float:
        """The mean squared error on all text."""
        weights = {f"{name}.weight": weight.dequantize() for name, weight in packed.items()}
        return sum(len(part) * float(self._loss(weights, part)) for part in self._given.pieces()) / len(self._wanted)

    def _loss(self, weights: Mapping[str, Tensor], part: Tensor) -> Tensor:
        given = self._given.of(part)
        found = functional_call(self._block, dict(weights), given.args, dict(given.kwargs))
        return (first_tensor(found) - self._wanted[part]).square().mean()
