"""Convolutions of 1 to 3 dimensions."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.inputs import quantized
from eqnet.export.onnx.options import LayerForm
from eqnet.export.onnx.registry import Site, writes
from eqnet.export.onnx.weights import IntegerWeight, dequantized, is_grouped
from eqnet.packed.layers import PackedConv

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""Of padding: torch's names and ONNX's."""


@writes(PackedConv)
def write_conv(site: Site) -> ir.Value:
    """``DequantizeLinear, DequantizeLinear → Conv``, which becomes an integer kernel where its result is quantized."""
    layer = cast(PackedConv, site.layer)
    assert site.x is not None
    dimensions = len(layer.kernel_size)
    batched = site.rank == dimensions + 2
    x = site.x if batched else site.op.Unsqueeze(site.x, site.constant(np.array([0]), "axes"))
    x = quantized(site, x, lambda codes: _padded(site, layer, codes))
    shape = (layer.rows, layer.in_channels // layer.groups, *layer.kernel_size)
    if is_grouped(layer):
        weight = site.op.Reshape(dequantized(site), site.constant(np.array(shape), "shape"))
        site.form = LayerForm(False, "floating point: its weight has scales for groups of inputs")
    elif layer.input_format is None:
        weight = dequantized(site, lambda codes: codes.reshape(shape))
        site.form = LayerForm(False, "floating point: its input is not quantized")
    else:
        integers = IntegerWeight.of(layer).shaped(shape)
        weight = integers.write(site, 0)
        site.form = LayerForm(True, "integers")
    inputs = [x, weight]
    if layer.bias is not None:
        inputs.append(site.constant(layer.bias.numpy(), "bias"))
    y: ir.Value = site.op.Conv(*inputs, **_attributes(layer))
    return y if batched else site.op.Squeeze(y, site.constant(np.array([0]), "axes"))


def _attributes(layer: PackedConv) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "kernel_shape": layer.kernel_size,
        "strides": layer.stride,
        "dilations": layer.dilation,
        "group": layer.groups,
    }
    if layer.padding_mode == "zeros":
        pads = _pads(layer)
        attributes["pads"] = [*(low for low, _ in pads), *(high for _, high in pads)]
    defaults = {"strides": 1, "dilations": 1, "group": 1, "pads": 0}
    return {
        name: value for name, value in attributes.items() if not np.all(np.equal(value, defaults.get(name, np.inf)))
    }


def _pads(layer: PackedConv) -> list[tuple[int, int]]:
    """What is added before and after, by dimension."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(size), int(size)) for size in layer.padding]


def _padded(site: Site, layer: PackedConv, codes: ir.Value) -> ir.Value:
    """``codes`` with the values around them that are no zeros; zeros the convolution itself adds."""
    pads = _pads(layer)
    if layer.padding_mode == "zeros" or not any(map(any, pads)):
        return codes
    sizes = [0, 0, *(low for low, _ in pads), 0, 0, *(high for _, high in pads)]
    padded: ir.Value = site.op.Pad(codes, site.constant(np.array(sizes), "pads"), mode=_MODES[layer.padding_mode])
    return padded
