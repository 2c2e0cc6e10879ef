"""What the kernels need to know of one packed layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eqnet.packed.layers import PackedConv2d, PackedLayer, PackedLinear
from eqnet.packed.tensor import PackedTensor
from eqnet.runtime.unsupported import UnsupportedError

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Parameters:
    """A convolution, and all that its integers mean.

    Attributes:
        stored: the weight as it is packed.
        weight: codes less zero points, int16 [out_channels, inputs of one output].
        scale: float32 [out_channels, groups].
        group_size: consecutive inputs of one output that share a scale.
        bias: float32 [out_channels].
        channels: in and out.
        groups: of channels.
        kernel, stride, dilation: rows and columns.
        padding: zeros at the top, left, bottom and right.
        input_scale: of the input's codes.
        input_zero: their zero point, counted from the smallest code.
        levels: how many codes the input has.
    """

    stored: PackedTensor
    weight: Tensor
    scale: Tensor
    group_size: int
    bias: Tensor
    channels: Pair
    groups: int
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Padding
    input_scale: float
    input_zero: int
    levels: int

    def arguments(self) -> dict[str, Any]:
        """As the kernels take them: tensors as addresses."""
        given = {name: value for name, value in vars(self).items() if name != "stored"}
        return {name: value.data_ptr() if isinstance(value, Tensor) else value for name, value in given.items()}


def convolution_parameters(layer: PackedConv2d, padding: Padding) -> Parameters:
    """Those of a convolution whose input is to be padded by zeros, beside what the layer itself pads.

    Raises:
        UnsupportedError: the input is not quantized, or the layer pads by something else than zeros.
    """
    if layer.padding_mode != "zeros":
        raise UnsupportedError(f"layer '{layer.path}' pads in the mode '{layer.padding_mode}', not with zeros")
    kernel, stride, dilation = (pair(x) for x in (layer.kernel_size, layer.stride, layer.dilation))
    own = _own_padding(layer.padding, kernel, dilation)
    return _parameters(
        layer,
        channels=(layer.in_channels, layer.out_channels),
        groups=layer.groups,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=(own[0] + padding[0], own[1] + padding[1], own[2] + padding[2], own[3] + padding[3]),
    )


def linear_parameters(layer: PackedLinear) -> Parameters:
    """Those of a linear layer, as a convolution of one pixel.

    Raises:
        UnsupportedError: the input is not quantized.
    """
    channels = (layer.in_features, layer.out_features)
    return _parameters(layer, channels, 1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))


def _parameters(
    layer: PackedLayer, channels: Pair, groups: int, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> Parameters:
    if layer.input_format is None or layer.input_scale is None or layer.input_zero_point is None:
        raise UnsupportedError(
            f"layer '{layer.path}' reads floating point ({layer.weight_format} × float); integer programs need "
            "activation formats for all layers"
        )
    weight, fmt = layer.weight, layer.input_format
    size = weight.format.group_size or weight.cols
    shape = (weight.rows, -(-weight.cols // size))
    zeros = weight.zero_points().expand(shape).repeat_interleave(size, 1)[:, : weight.cols]
    bias = layer.bias if layer.bias is not None else torch.zeros(weight.rows)
    return Parameters(
        stored=weight,
        weight=(weight.integers() - zeros).contiguous(),
        scale=weight.scale.float().expand(shape).contiguous(),
        group_size=size,
        bias=bias.float().contiguous(),
        channels=channels,
        groups=groups,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        input_scale=layer.input_scale.item(),
        input_zero=int(layer.input_zero_point.item()) - fmt.qmin,
        levels=fmt.qmax - fmt.qmin + 1,
    )


def _own_padding(padding: str | tuple[int, ...], kernel: Pair, dilation: Pair) -> Padding:
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":  # an odd zero goes to the bottom and to the right
        height, width = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return height // 2, width // 2, height - height // 2, width - width // 2
    assert not isinstance(padding, str)
    height, width = pair(padding)
    return height, width, height, width


def pair(x: Any) -> Pair:
    """As torch reads the sizes of a 2-d layer."""
    return (int(x), int(x)) if isinstance(x, int) else (int(x[0]), int(x[-1]))
