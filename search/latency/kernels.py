"""What the time of a layer depends on, and layers that stand for all that take the same time."""

from __future__ import annotations

import copy

import torch
from torch import nn

from eqnet.formats import MAX_BITS, Format, Granularity, LayerFormat
from eqnet.layers import Elastic
from eqnet.packed.layers import PACKED, InputRange, PackedLayer
from eqnet.packed.planes import plane_bytes
from eqnet.packed.tensor import PackedTensor
from eqnet.space import Layer

_SCALES = {16: torch.float16, 32: torch.float32}
"""Types of scales by their bits."""

_INPUT = Format(MAX_BITS, False)
"""Stands for every format of an input: codes are bytes while they are computed with, whatever their width."""


def stand_in(layer: Layer, fmt: LayerFormat, whole: bool) -> LayerFormat:
    """The format that stands for all those in which ``layer`` runs the same kernel on the same amount of memory.

    The time depends on shapes, and

    * in a program of the whole network, whose weights are unpacked to bytes when it is compiled: on the size of groups,
      and on whether codes less zero points go beyond a byte, as they can for asymmetric codes of 8 bits alone;
    * else, in a linear layer, whose kernels read packed weights: on the width of the weight, the size of its groups
      and whether it has zero points; and on whether the input is quantized;
    * else, where weights are unpacked in each call: on the whole format of the weight, and on whether the input is
      quantized.

    Args:
        layer: of the space.
        fmt: that it takes.
        whole: whether the network runs as one program on integers.
    """
    weight = layer.stored_format(fmt.weight)
    activation = _INPUT if fmt.activation is not None else None
    if not whole and layer.kind != "Linear":
        return LayerFormat(weight, activation)
    bits, symmetric = weight.bits, weight.symmetric
    if whole:
        bits, symmetric = MAX_BITS, symmetric or bits < MAX_BITS
    if weight.group_size and weight.group_size < layer.cols:
        return LayerFormat(Format(bits, symmetric, Granularity.GROUP, weight.group_size), activation)
    return LayerFormat(Format(bits, symmetric, Granularity.CHANNEL), activation)


def packed_layer(elastic: Elastic, layer: Layer, fmt: LayerFormat, scale_bits: int) -> PackedLayer:
    """A packed layer like ``elastic``, of random codes on the CPU: its time does not depend on their values.

    Args:
        elastic: left as it is.
        layer: what the space knows of it.
        fmt: of the weight as it is stored, and of the input.
        scale_bits: of the weight's scales.
    """
    own = [*elastic.parameters(), *elastic.buffers(), elastic.weight_quantizer, elastic.input_quantizer]
    twin: nn.Module = copy.deepcopy(elastic, {id(part): part for part in own if part is not None})
    weight = _random_weight(fmt.weight, layer.rows, layer.cols, _SCALES[scale_bits])
    bias = torch.zeros(layer.rows) if layer.has_bias else None
    range_ = None
    if fmt.activation is not None:
        middle = (fmt.activation.qmin + fmt.activation.qmax + 1) // 2
        range_ = InputRange(fmt.activation, torch.tensor([1 / 32]), torch.tensor([middle], dtype=torch.int16))
    return PACKED[type(elastic)].convert(twin, layer.name, weight, bias, range_)


def _random_weight(fmt: Format, rows: int, cols: int, scales: torch.dtype) -> PackedTensor:
    generator = torch.Generator().manual_seed(0)

    def codes(count: int) -> torch.Tensor:
        return torch.randint(0, 256, (plane_bytes(count, fmt.bits),), generator=generator, dtype=torch.uint8)

    shape = fmt.scale_shape(rows, cols)
    scale = (torch.rand(shape, generator=generator) + 0.5) / (1 << fmt.bits)
    zeros = None if fmt.symmetric else codes(shape[0] * shape[1])
    return PackedTensor(fmt, rows, cols, codes(rows * cols), scale.to(scales), zeros)
