"""Elastic linear layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.layers.base import Elastic, replaces


@replaces(nn.Linear)
class ElasticLinear(Elastic, nn.Linear):
    """``nn.Linear`` on inputs of any number of dimensions."""

    @staticmethod
    def macs(layer: Any, inputs: Tensor, outputs: Tensor) -> int:
        return outputs.numel() * int(layer.in_features)

    @staticmethod
    def channel_axis(layer: Any, outputs: Tensor) -> int | None:
        return outputs.ndim - 1

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(self.quantized_input(input), self.quantized_weight(), self.bias)
