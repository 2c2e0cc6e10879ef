"""Elastic convolutions: 1-D to 3-D, grouped, depthwise and dilated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eqnet.layers.base import Elastic, replaces


class _ElasticConv(Elastic):
    @staticmethod
    def macs(layer: Any, inputs: Tensor, outputs: Tensor) -> int:
        return outputs.numel() * int(layer.weight[0].numel())

    @staticmethod
    def channel_axis(layer: Any, outputs: Tensor) -> int | None:
        return outputs.ndim - 1 - len(layer.kernel_size)

    def forward(self, input: Tensor) -> Tensor:
        conv: Any = self  # _conv_forward is that of the torch class which the concrete layer also derives from
        input, weight = self.quantized_input(self.arranged(input)), self.arranged(self.quantized_weight())
        result: Tensor = conv._conv_forward(input, weight, conv.bias)
        return result

    def arranged(self, x: Tensor) -> Tensor:
        """``x`` in the order in memory in which the convolution is fastest."""
        return x


@replaces(nn.Conv1d)
class ElasticConv1d(_ElasticConv, nn.Conv1d):
    """``nn.Conv1d``."""


@replaces(nn.Conv2d)
class ElasticConv2d(_ElasticConv, nn.Conv2d):
    """``nn.Conv2d``; where ``channels_last`` is set, a CPU computes it in that order, which is half as fast again."""

    channels_last = False

    def arranged(self, x: Tensor) -> Tensor:
        if self.channels_last and x.ndim == 4 and x.device.type == "cpu":
            return x.contiguous(memory_format=torch.channels_last)
        return x


@replaces(nn.Conv3d)
class ElasticConv3d(_ElasticConv, nn.Conv3d):
    """``nn.Conv3d``."""
