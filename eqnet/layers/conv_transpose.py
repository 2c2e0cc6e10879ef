"""Elastic transposed convolutions, 1-D to 3-D."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.layers.base import Elastic, replaces


class _ElasticConvTranspose(Elastic):
    """The weight is [in, out / groups, *kernel]: its matrix has to be gathered from the groups."""

    dimensions: int

    @staticmethod
    def macs(layer: Any, inputs: Tensor, outputs: Tensor) -> int:
        return inputs.numel() * int(layer.weight[0].numel())

    @staticmethod
    def to_matrix(layer: Any, weight: Tensor) -> Tensor:
        # [in, out/g, *kernel] → [g, in/g, out/g, k] → [g, out/g, in/g, k] → [out, in/g · k]
        split = weight.reshape(layer.groups, -1, weight.shape[1], weight[0, 0].numel())
        return split.transpose(1, 2).reshape(layer.out_channels, -1)

    @staticmethod
    def from_matrix(layer: Any, matrix: Tensor, shape: torch.Size) -> Tensor:
        split = matrix.reshape(layer.groups, shape[1], shape[0] // layer.groups, -1)
        return split.transpose(1, 2).reshape(shape)

    @staticmethod
    def channel_axis(layer: Any, outputs: Tensor) -> int | None:
        return outputs.ndim - 1 - len(layer.kernel_size)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        conv: Any = self
        input = self.quantized_input(input)
        padding = conv._output_padding(
            input, output_size, conv.stride, conv.padding, conv.kernel_size, self.dimensions, conv.dilation
        )
        transpose = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.dimensions - 1]
        return transpose(
            input, self.quantized_weight(), conv.bias, conv.stride, conv.padding, padding, conv.groups, conv.dilation
        )


@replaces(nn.ConvTranspose1d)
class ElasticConvTranspose1d(_ElasticConvTranspose, nn.ConvTranspose1d):
    """``nn.ConvTranspose1d``."""

    dimensions = 1


@replaces(nn.ConvTranspose2d)
class ElasticConvTranspose2d(_ElasticConvTranspose, nn.ConvTranspose2d):
    """``nn.ConvTranspose2d``."""

    dimensions = 2


@replaces(nn.ConvTranspose3d)
class ElasticConvTranspose3d(_ElasticConvTranspose, nn.ConvTranspose3d):
    """``nn.ConvTranspose3d``."""

    dimensions = 3
