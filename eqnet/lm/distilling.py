"""``distill``: a block's quantized layers are trained to make of their text what the block makes in floating point.

Gradients go straight through the rounding, as in the supernet's own training, but for one block and one subnet at a
time, as in block-wise reconstruction (Li et al., BRECQ, ICLR 2021): what the block is given is the text as the packed
blocks before it leave it, and what it is to give is the text as it would be in floating point throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eqnet.lm.given import Given, first_tensor
from eqnet.lm.methods.ranges import stored_scale
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

_WITHIN = 0.49
"""Share of a code by which a weight may be off its code and still round to it, with room for what arithmetic rounds."""


@dataclass(frozen=True)
class Distillation:
    """How blocks are trained.

    Attributes:
        steps: of the optimizer, for each block.
        batch: windows of a step.
        rate: of learning, of scales, relative to themselves.
        weights: whether weights are trained, too, so that codes move to where their block wants them.
        weight_rate: of learning, of weights, in scales of their group.
        seed: of the windows that are drawn.
    """

    steps: int = 60
    batch: int = 4
    rate: float = 1e-3
    weights: bool = True
    weight_rate: float = 1e-2
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
            layers = {name: _Layer(exact[name], packed[name]) for name in packed}
            training = _Training(block, layers, given, wanted)
            before = training.loss_of(packed)
            training.run(self)
        found = {name: layer.packed() for name, layer in layers.items()}
        return found if training.loss_of(found) < before else dict(packed)


class _Layer(nn.Module):
    """One weight, and where its quantizer is: what is trained is each weight's place among the codes, and the scales.

    A place is in scales, so that a scale that changes takes its weights along, and none of them to another code.
    """

    def __init__(self, exact: Tensor, packed: PackedTensor) -> None:
        super().__init__()
        fmt = packed.format
        self._packed = packed
        self._shift = self._expanded(packed.zero_points().float())
        self.log_scale = nn.Parameter(packed.scale.float().log())
        centred = packed.integers().float() - self._shift
        off = exact / self._expanded(packed.scale.float()) - centred
        # At the border of its code, as near to where it was as can be, a weight that error compensation has moved would
        # be taken back to the nearest code by the first step, and all that the compensation was for undone.
        self.place = nn.Parameter(centred + torch.where(off.abs() <= _WITHIN, off, 0.0))
        self._lowest, self._highest = fmt.qmin - self._shift, fmt.qmax - self._shift

    def forward(self) -> Tensor:
        """The weight, rounded to codes; gradients go straight through the rounding."""
        exact = self.log_scale.exp()
        scale = self._stored() + (exact - exact.detach())
        return (self.place + (self._centred() - self.place).detach()) * self._expanded(scale)

    @torch.no_grad()
    def packed(self) -> PackedTensor:
        """What is stored."""
        fmt = self._packed.format
        codes = (self._centred() + self._shift).to(torch.int16) - fmt.qmin
        return replace(self._packed, codes=pack(codes, fmt.bits), scale=self._stored().to(self._packed.scale.dtype))

    def _centred(self) -> Tensor:
        """Codes less their zero points."""
        return self.place.detach().round().clamp(self._lowest, self._highest)

    def _stored(self) -> Tensor:
        return stored_scale(self.log_scale.detach().exp(), self._packed.scale.dtype)

    def _expanded(self, parameter: Tensor) -> Tensor:
        """One value for each weight; broadcasts to [rows, cols]."""
        size = self._packed.format.group_size
        return parameter.repeat_interleave(size, 1)[:, : self._packed.cols] if size else parameter


class _Training:
    """A block, and what it is to make of its text."""

    def __init__(self, block: nn.Module, layers: Mapping[str, _Layer], given: Given, wanted: Tensor) -> None:
        self._block, self._layers, self._given, self._wanted = block, layers, given, wanted

    def run(self, how: Distillation) -> None:
        """Takes the steps, at rates that fall along a cosine."""
        count = len(self._wanted)
        groups = [{"params": [layer.log_scale for layer in self._layers.values()], "lr": how.rate}]
        if how.weights:
            groups.append({"params": [layer.place for layer in self._layers.values()], "lr": how.weight_rate})
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
