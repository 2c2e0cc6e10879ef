"""Packed convolutions: 1-D to 3-D, grouped, depthwise and dilated, with every kind of padding."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from eqnet.packed.layers.base import PackedLayer, packs


class PackedConv(PackedLayer):
    """What convolutions of 1 to 3 dimensions share; the hyperparameters are those of torch's classes."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str

    def forward(self, input: Tensor) -> Tensor:
        """[N, in_channels, ...] → [N, out_channels, ...], in the type of the input; N may be missing."""
        x = self.quantized_input(input)
        torch_class: Any = self.kind  # its method reads the hyperparameters alone
        result: Tensor = torch_class._conv_forward(self, x, self.dequantized_weight(x.dtype), self.cast_bias(x.dtype))
        return result


@packs(nn.Conv1d)
class PackedConv1d(PackedConv):
    """``nn.Conv1d``."""


@packs(nn.Conv2d)
class PackedConv2d(PackedConv):
    """``nn.Conv2d``."""


@packs(nn.Conv3d)
class PackedConv3d(PackedConv):
    """``nn.Conv3d``."""
