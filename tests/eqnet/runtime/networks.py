"""Packed networks with random codes, and what they compute in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet import _kernels
from eqnet.formats import Format, Granularity
from eqnet.packed.layers import PackedConv2d, PackedLayer, PackedLinear
from eqnet.packed.layers.base import InputRange
from eqnet.packed.model import PackedModel
from eqnet.packed.planes import pack
from eqnet.packed.record import Record
from eqnet.packed.tensor import PackedTensor

BELOW = {"avx512": ("portable", "avx2"), "avx2": ("portable",), "neon": ("portable",), "portable": ()}
ISAS = [*BELOW[_kernels.isa()], _kernels.isa()]
"""Instruction sets that can be tested here."""

INPUT_RANGE = 3.0
"""Input codes reach from about the negative to the positive of it, or from 0 to twice that."""


@dataclass(frozen=True)
class Formats:
    """Of all layers of a network."""

    weight: Format
    activation: Format

    @classmethod
    def parse(cls, text: str) -> Formats:
        """Reads ``int4:channel × uint8:tensor``."""
        weight, activation = text.split(" × ")
        return cls(Format.parse(weight), Format.parse(activation))


def packed(model: nn.Module, formats: Formats, generator: torch.Generator) -> PackedModel:
    """Packs the convolutions and linear layers of ``model`` with random codes of every value that they can have."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            kind = PackedConv2d if isinstance(layer, nn.Conv2d) else PackedLinear
            matrix = layer.weight.flatten(1)
            bias = torch.randn(len(matrix), generator=generator) if layer.bias is not None else None
            kind.convert(
                layer, name, _weight(matrix, formats.weight, generator), bias, _input(formats.activation, generator)
            )
    return PackedModel(model, Record({}))


def _weight(matrix: Tensor, fmt: Format, generator: torch.Generator) -> PackedTensor:
    rows, cols = matrix.shape
    shape = fmt.scale_shape(rows, cols)
    codes = torch.randint(0, 2**fmt.bits, (rows, cols), generator=generator)
    # Rows of the largest and of the smallest codes alone, whose zero points are at the other end.
    zeros = torch.randint(0, 2**fmt.bits, shape, generator=generator)
    if fmt.granularity is not Granularity.TENSOR:
        codes[0], zeros[0] = 2**fmt.bits - 1, 0
        codes[-1], zeros[-1] = 0, 2**fmt.bits - 1
    scale = (0.5 + torch.rand(shape, generator=generator)) / (2 ** (fmt.bits - 1) * cols**0.5)
    zero_point = None if fmt.symmetric else pack(zeros, fmt.bits)
    return PackedTensor(fmt, rows, cols, pack(codes, fmt.bits), scale, zero_point)


def _input(fmt: Format, generator: torch.Generator) -> InputRange:
    zero = 0 if fmt.symmetric else int(torch.randint(0, 2**fmt.bits, (), generator=generator))
    scale = torch.tensor([2 * INPUT_RANGE / 2**fmt.bits]) * (0.8 + 0.4 * torch.rand(1, generator=generator))
    return InputRange(fmt, scale, torch.tensor([zero], dtype=torch.int16))


class InFloat64(nn.Module):
    """What a packed layer is defined to compute: float64, with the quantization of its input written out.

    Attributes:
        margin: after a call, the least distance of an input from the middle between two codes, in codes.
    """

    def __init__(self, layer: PackedLayer, absolute: bool = False) -> None:
        super().__init__()
        self.layer, self.absolute, self.margin = layer, absolute, 0.5

    def forward(self, x: Tensor) -> Tensor:
        """The sum of products; that of their absolute values and of the bias's if ``absolute``."""
        layer: Any = self.layer
        fmt, scale = layer.input_format, layer.input_scale.double()
        ratio, zero = x.double() / scale, layer.input_zero_point.double()
        if ratio.numel():
            self.margin = min(self.margin, float((ratio - ratio.floor() - 0.5).abs().min()))
        x = ((ratio.round() + zero).clamp(fmt.qmin, fmt.qmax) - zero) * scale
        weight = layer.weight
        size = weight.format.group_size or weight.cols
        shape = (weight.rows, -(-weight.cols // size))
        zeros, scales = (
            part.double().expand(shape).repeat_interleave(size, 1)[:, : weight.cols]
            for part in (weight.zero_points(), weight.scale)
        )
        w = ((weight.integers().double() - zeros) * scales).view(layer.shape)
        bias = layer.bias.double() if layer.bias is not None else None
        if self.absolute:
            x, w, bias = x.abs(), w.abs(), bias.abs() if bias is not None else None
        if isinstance(layer, PackedLinear):
            return F.linear(x, w, bias)
        return F.conv2d(x, w, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def in_float64(model: PackedModel, absolute: bool = False) -> nn.Module:
    """The network with its layers as they are defined."""
    result = copy.deepcopy(model.model)
    if isinstance(result, PackedLayer):
        return InFloat64(result, absolute)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, PackedLayer):
            owner, _, leaf = name.rpartition(".")
            setattr(result.get_submodule(owner), leaf, InFloat64(layer, absolute))
    return result.double()
