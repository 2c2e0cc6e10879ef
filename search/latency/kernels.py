"""Layers and networks of random codes, which take the same time as all that they stand for."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import torch

from eqnet.formats import Format, Granularity, LayerFormat
from eqnet.layers import Elastic
from eqnet.packed.layers import PACKED, ChannelAffine, InputRange, PackedLayer
from eqnet.packed.layers.norm import into_identity, scale_and_shift
from eqnet.packed.model import PackedModel
from eqnet.packed.planes import pack, plane_bytes
from eqnet.packed.record import Record
from eqnet.packed.tensor import PackedTensor
from eqnet.space import Layer
from eqnet.supernet import Supernet
from eqnet.tracing import is_affine

_SCALES = {16: torch.float16, 32: torch.float32}
"""Types of scales by their bits."""


def packed_layer(
    elastic: Elastic, layer: Layer, fmt: LayerFormat, scale_bits: int, nonnegative: bool = False
) -> PackedLayer:
    """A packed layer like ``elastic``, of random codes on the CPU: its time does not depend on their values.

    Args:
        elastic: left as it is.
        layer: what the space knows of it.
        fmt: that it takes.
        scale_bits: of the weight's scales.
        nonnegative: whether its input is.
    """
    twin: Elastic = copy.deepcopy(elastic, _shared(elastic))
    return _convert(twin, layer, fmt, scale_bits, nonnegative)


def packed_network(
    supernet: Supernet, subnet: Mapping[str, LayerFormat], nonnegative: Collection[str] = ()
) -> PackedModel:
    """A packed model like that of ``subnet``, of random codes on the CPU, for a supernet that has no ranges yet.

    Args:
        supernet: left as it is.
        subnet: one of its.
        nonnegative: the layers whose input is.
    """
    shared = {key: part for elastic in supernet.elastic.values() for key, part in _shared(elastic).items()}
    model = copy.deepcopy(supernet.model, shared)
    space = supernet.space
    for number, layer in enumerate(space.layers):
        elastic, fmt = model.get_submodule(layer.name), subnet[layer.name]
        assert isinstance(elastic, Elastic)
        _convert(elastic, layer, fmt, space.scale_bits, layer.name in nonnegative, number)
    for name, module in list(model.named_modules()):
        if name in supernet.folded:
            into_identity(module)
        elif is_affine(module):
            scale, shift = scale_and_shift(module)
            ChannelAffine.convert(module, scale.float(), shift.float())
    return PackedModel(model, Record({})).to("cpu")


def _shared(elastic: Elastic) -> dict[int, object]:
    """What a copy of the layer need not copy, as it is to be packed."""
    parts = [*elastic.parameters(), *elastic.buffers(), elastic.weight_quantizer, elastic.input_quantizer]
    return {id(part): part for part in parts if part is not None}


def _convert(
    elastic: Elastic, layer: Layer, fmt: LayerFormat, scale_bits: int, nonnegative: bool, number: int = 0
) -> PackedLayer:
    alike = fmt.weight.granularity is Granularity.TENSOR
    weight = _random_weight(layer.stored_format(fmt.weight), layer.rows, layer.cols, _SCALES[scale_bits], alike)
    bias = torch.zeros(layer.rows) if layer.has_bias else None
    range_ = None
    if fmt.activation is not None:
        # As after calibration: engines leave out an activation whose bound is that of the codes, and round but once for
        # layers that read the same in the same scale; no two of a network have the same.
        zero = 0 if nonnegative else (fmt.activation.qmin + fmt.activation.qmax + 1) // 2
        scale = (1 + number / 1024) / 32
        range_ = InputRange(fmt.activation, torch.tensor([scale]), torch.tensor([zero], dtype=torch.int16))
    return PACKED[type(elastic)].convert(elastic, layer.name, weight, bias, range_)


def _random_weight(fmt: Format, rows: int, cols: int, scales: torch.dtype, alike: bool) -> PackedTensor:
    """Of random codes, and random zero points unless they are all alike."""
    generator = torch.Generator().manual_seed(0)

    def codes(count: int) -> torch.Tensor:
        return torch.randint(0, 256, (plane_bytes(count, fmt.bits),), generator=generator, dtype=torch.uint8)

    shape = fmt.scale_shape(rows, cols)
    # What such layers compute is about as large as what they are given, so that nothing overflows in deep networks.
    scale = (torch.rand(shape, generator=generator) + 0.5) / (1 << fmt.bits) / max(cols, 1) ** 0.5
    count = shape[0] * shape[1]
    zeros = pack(torch.full((count,), 1 << (fmt.bits - 1)), fmt.bits) if alike else codes(count)
    return PackedTensor(fmt, rows, cols, codes(rows * cols), scale.to(scales), None if fmt.symmetric else zeros)
