"""From a subnet of a supernet to a model that holds only what is stored."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eqnet.errors import ModelError
from eqnet.formats import LayerFormat
from eqnet.layers import Elastic
from eqnet.layers.base import check_parameters
from eqnet.packed.folding import fold
from eqnet.packed.layers import PACKED, ChannelAffine, InputRange
from eqnet.packed.layers.norm import into_identity, scale_and_shift
from eqnet.packed.model import PackedModel
from eqnet.packed.record import LayerRecord, Record, remade_buffers, type_name
from eqnet.packed.tensor import PackedTensor
from eqnet.space import Layer
from eqnet.supernet import Supernet
from eqnet.tracing import ExampleInputs, is_affine


def pack(
    supernet: Supernet,
    subnet: Mapping[str, LayerFormat],
    inputs: Iterable[ExampleInputs] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> PackedModel:
    """Packs ``subnet``: its codes in exactly their bits, with their scales, zero points and biases.

    Batch norms that follow a layer become part of it: they multiply its scales, which may then be negative or 0, and
    change its bias, while its codes stay as they are. A scale for the whole tensor becomes one for each channel. With
    fp16 scales the product is rounded to fp16 once more. Every other batch norm becomes a scale and a shift for each
    channel. The packed model takes exactly the bytes that the budget counts.

    Args:
        supernet: calibrated or trained; it is left exactly as it was, and shares no memory with the result.
        subnet: the format of each of its layers.
        inputs: batches on which batch norm is re-estimated for this subnet, as a search does before it measures one;
            the running statistics are used as they are if None.
        metadata: kept in ``record``; whatever JSON can hold.

    Raises:
        InputError: the subnet is not one of this supernet.
        ModelError: the supernet is not calibrated, ``inputs`` is empty, or a layer holds inf or NaN.
    """
    with supernet.running(subnet), _statistics_kept(supernet):
        _check_calibrated(supernet)
        if inputs is not None:
            supernet.reestimate_batch_norm(inputs)
        model = _copy(supernet)
    norms = {layer: norm for norm, layer in supernet.folded.items()}
    weights: dict[int, PackedTensor] = {}  # by quantizer: layers that share theirs share what is stored
    records = {}
    for layer in supernet.space.layers:
        module = model.get_submodule(layer.name)
        assert isinstance(module, Elastic)
        norm = model.get_submodule(norms[layer.name]) if layer.folded else None
        records[layer.name] = _pack_layer(layer, module, subnet[layer.name], norm, weights)
    affine = tuple(name for name, module in model.named_modules() if is_affine(module) and name not in supernet.folded)
    for name in affine:
        norm = model.get_submodule(name)
        scale, shift = scale_and_shift(norm)
        _check_finite(f"batch norm '{name}'", scale=scale, shift=shift)
        ChannelAffine.convert(norm, scale.float(), shift.float())
    for name in supernet.folded:
        into_identity(model.get_submodule(name))
    for name, parameter in model.named_parameters():
        _check_finite("the model", **{f"parameter '{name}'": parameter})
    record = Record(records, dict(supernet.folded), affine, remade_buffers(model), dict(metadata or {}))
    return PackedModel(model, record)


def _pack_layer(
    layer: Layer, module: Elastic, fmt: LayerFormat, norm: nn.Module | None, weights: dict[int, PackedTensor]
) -> LayerRecord:
    """Makes ``module`` itself packed, and ``norm`` part of it."""
    packed_class = PACKED[type(module)]
    check_parameters(module, layer.name)
    quantizer, dtype, shape = module.weight_quantizer, module.weight.dtype, tuple(module.weight.shape)
    if id(quantizer) not in weights:
        weights[id(quantizer)] = PackedTensor.of(module.matrix().detach(), quantizer, fmt.weight)
    weight = weights[id(quantizer)]
    bias = getattr(module, "bias", None)
    bias = bias.detach().to(torch.float32, copy=True) if bias is not None else None
    if norm is not None:
        weight, bias = fold(weight, bias, *scale_and_shift(norm), layer.stored_format(fmt.weight))
    checked = {"scale": weight.scale} | ({"bias": bias} if bias is not None else {})
    _check_finite(f"layer '{layer.name}'" + (" with its batch norm" if norm is not None else ""), **checked)
    input_range = _input_range(module, fmt, layer.name)
    packed_class.convert(module, layer.name, weight, bias, input_range)
    return LayerRecord(packed_class.kind.__name__, weight.format, fmt.activation, shape, type_name(dtype))


def _input_range(module: Elastic, fmt: LayerFormat, name: str) -> InputRange | None:
    if fmt.activation is None or module.input_quantizer is None:
        return None
    scale = module.input_quantizer.scale(fmt.activation).detach().reshape(1)
    zero_point = module.input_quantizer.integer_zero_point(fmt.activation).reshape(1)
    _check_finite(f"layer '{name}'", **{"input scale": scale, "input zero point": zero_point})
    return InputRange(fmt.activation, scale, zero_point.to(torch.int16))


def _copy(supernet: Supernet) -> nn.Module:
    """The elastic model without copies of what packing replaces: its layers' weights and quantizers."""
    layers = set(supernet.elastic.values())
    elsewhere = {
        id(parameter)
        for module in supernet.model.modules()
        if module not in layers
        for parameter in module.parameters(recurse=False)
    }
    shared = [quantizer for layer in layers for quantizer in (layer.weight_quantizer, layer.input_quantizer)]
    weights = [p for layer in layers for p in layer.parameters(recurse=False) if id(p) not in elsewhere]
    return copy.deepcopy(supernet.model, {id(part): part for part in [*shared, *weights]})


@contextmanager
def _statistics_kept(supernet: Supernet) -> Iterator[None]:
    """The statistics of every batch norm are afterwards what they were before."""
    before = [(buffer, buffer.clone()) for norm in supernet.batch_norms() for buffer in norm.buffers(recurse=False)]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _check_calibrated(supernet: Supernet) -> None:
    """Raises ModelError if all ranges are what they start as, which those of layers of zeros may stay."""
    untouched = [
        not any(parameter.any() for parameter in quantizer.parameters())
        for layer in supernet.elastic.values()
        if layer.weight.any()
        for quantizer in (layer.weight_quantizer, layer.input_quantizer)
        if quantizer is not None
    ]
    if untouched and all(untouched):
        first = next(iter(supernet.elastic))
        raise ModelError(
            f"layer '{first}' and all others have no ranges yet; call calibrate on the supernet, or restore a saved one"
        )


def _check_finite(where: str, **parts: Tensor) -> None:
    for name, part in parts.items():
        if not torch.isfinite(part).all():
            raise ModelError(
                f"{where}: its {name} holds inf or NaN, or is too large for {str(part.dtype).removeprefix('torch.')}; "
                "check the statistics and the training, or take scale=fp32"
            )
