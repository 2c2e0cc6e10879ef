"""Elastic convolutions: 1-D to 3-D, grouped, depthwise and dilated."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from eqnet.layers.base import Elastic, replaces


class _ElasticConv(Elastic):
    @staticmethod
    def macs(layer: Any, inputs: Tensor, outputs: Tensor) -> int:
        return outputs.numel() * int(layer.weight[0].numel())

    def forward(self, input: Tensor) -> Tensor:
        conv: Any = self  # _conv_forward is that of the torch class which the concrete layer also derives from
        result: Tensor = conv._conv_forward(self.quantized_input(input), self.quantized_weight(), conv.bias)
        return result


@replaces(nn.Conv1d)
class ElasticConv1d(_ElasticConv, nn.Conv1d):
    """``nn.Conv1d``."""


@replaces(nn.Conv2d)
class ElasticConv2d(_ElasticConv, nn.Conv2d):
    """``nn.Conv2d``."""


@replaces(nn.Conv3d)
class ElasticConv3d(_ElasticConv, nn.Conv3d):
    """``nn.Conv3d``."""
