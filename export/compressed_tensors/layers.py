"""Packed linear layers as compressed-tensors has them: a scheme for each format, and the tensors of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from torch import Tensor

from eqnet.export.nearest import refusal
from eqnet.export.targets import load_target
from eqnet.formats import MAX_BITS, Format, Granularity, LayerFormat
from eqnet.packed.layers import PackedLayer
from eqnet.space import Layer

TARGET = "compressed-tensors"

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers of one module that vLLM makes one of."""


def shared_by_rows(fmt: Format) -> Format:
    """The same with a scale for each row where there is one for all of them: kernels have none for whole tensors."""
    if fmt.granularity is Granularity.TENSOR:
        return replace(fmt, granularity=Granularity.CHANNEL)
    return fmt


def check(layers: Mapping[str, PackedLayer], every: Mapping[str, PackedLayer]) -> None:
    """Makes sure that vLLM runs linear layers.

    Args:
        layers: those that are to be, by name.
        every: all packed layers of the model.

    Raises:
        ModelError: there are no kernels for one, or layers that are fused differ; the message has the nearest format.
    """
    target, reasons = load_target(TARGET), {}
    for name, layer in layers.items():
        described = Layer(name, "Linear", layer.rows, layer.cols, 0, 0)
        why = target.why_not(described, LayerFormat(shared_by_rows(layer.weight_format)))
        partners = _partners(name, layers)
        if why is not None:
            reasons[name] = why.partition(": ")[2] or why
        elif any(layers[other].weight_format != layer.weight_format for other in partners):
            formats = ", ".join(f"{other.rpartition('.')[2]} is {layers[other].weight_format}" for other in partners)
            reasons[name] = f"vLLM fuses it with others, and {formats}"
    if reasons:
        raise refusal(target, reasons, every, len(every))


def check_groups(layers: Mapping[str, PackedLayer]) -> None:
    """Raises ModelError if the last group of a layer is shorter than the others: the format has none such."""
    reasons = {
        name: f"{layer.cols} columns are no whole number of groups"
        for name, layer in layers.items()
        if (size := layer.weight_format.group_size) and layer.cols % size
    }
    if reasons:
        raise refusal(load_target(TARGET), reasons, layers, len(layers))


def _partners(name: str, layers: Mapping[str, PackedLayer]) -> list[str]:
    """The other layers that vLLM fuses with a layer."""
    owner, _, leaf = name.rpartition(".")
    fused = next((names for names in FUSED if leaf in names), ())
    return [other for part in fused if (other := f"{owner}.{part}") in layers and other != name]


def scheme(fmt: Format) -> dict[str, Any]:
    """How compressed-tensors describes weights of a format."""
    return {
        "num_bits": fmt.bits,
        "type": "int",
        "symmetric": fmt.symmetric,
        "strategy": fmt.granularity.value,
        "group_size": fmt.group_size or None,
        "dynamic": False,
    }


def config_groups(formats: Mapping[str, Format]) -> dict[str, Any]:
    """A group for each format, with the names of its layers."""
    by_format: dict[Format, list[str]] = {}
    for name, fmt in formats.items():
        by_format.setdefault(fmt, []).append(name)
    return {
        f"group_{i}": {"targets": names, "weights": scheme(fmt), "input_activations": None, "output_activations": None}
        for i, (fmt, names) in enumerate(by_format.items())
    }


def without_zero_points(layers: Mapping[str, PackedLayer]) -> dict[str, Format]:
    """Formats that transformers loads: codes less their zero points, symmetric, in one more bit.

    It has no room for packed zero points in a model that stays compressed, and where it dequantizes while it loads,
    it takes all layers to be in one format (transformers 5.24 with compressed-tensors 0.20).

    Raises:
        ModelError: a layer has 8 bits, and some difference needs 9.
    """
    formats, reasons = {}, {}
    for name, layer in layers.items():
        fmt = shared_by_rows(layer.weight_format)
        formats[name] = fmt if fmt.symmetric else replace(fmt, bits=min(fmt.bits + 1, MAX_BITS), symmetric=True)
        if not fmt.symmetric and fmt.bits == MAX_BITS:
            steps = _steps(layer)
            if steps.numel() and not (steps.min() >= formats[name].qmin and steps.max() <= formats[name].qmax):
                reasons[name] = f"transformers loads no zero points, and codes less theirs need {MAX_BITS + 1} bits"
    if reasons:
        raise refusal(load_target(TARGET), reasons, layers, len(layers))
    return formats


def tensors(layer: PackedLayer, fmt: Format) -> dict[str, Tensor]:
    """A layer's tensors by their names in it.

    Codes and zero points of asymmetric formats are moved down by half of their range, as compressed-tensors counts
    from there; packing moves them up again.

    Args:
        layer: linear.
        fmt: that of the layer, or one without zero points that holds the differences from them.
    """
    weight = layer.weight
    shape = (weight.rows, weight.scale.shape[1])
    half = 0 if fmt.symmetric else 1 << fmt.bits - 1
    codes = _steps(layer) if fmt.symmetric else weight.integers() - half
    found = {
        "weight_packed": pack_to_int32(codes.to(torch.int8), fmt.bits),
        "weight_scale": weight.scale.expand(shape).contiguous(),
        "weight_shape": torch.tensor([weight.rows, weight.cols]),
    }
    if not fmt.symmetric:
        points = (weight.zero_points() - half).to(torch.int8).expand(shape).contiguous()
        found["weight_zero_point"] = pack_to_int32(points, fmt.bits, packed_dim=0)
    return found


def _steps(layer: PackedLayer) -> Tensor:
    """Codes less their zero points, int16 [rows, cols]."""
    weight = layer.weight
    if weight.zero_point is None:
        return weight.integers()
    size = weight.format.group_size or weight.cols
    return weight.integers() - weight.zero_points().repeat_interleave(size, 1)[:, : weight.cols]
