"""Transposed convolutions of 1 to 3 dimensions, which engines have in floating point alone."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.inputs import quantized
from eqnet.export.onnx.options import LayerForm
from eqnet.export.onnx.registry import Site, writes
from eqnet.export.onnx.weights import dequantized, is_grouped
from eqnet.packed.layers import PackedConvTranspose


@writes(PackedConvTranspose)
def write_conv_transpose(site: Site) -> ir.Value:
    """``DequantizeLinear, DequantizeLinear → ConvTranspose``."""
    layer = cast(PackedConvTranspose, site.layer)
    assert site.x is not None
    batched = site.rank == layer.dimensions + 2
    x = site.x if batched else site.op.Unsqueeze(site.x, site.constant(np.array([0]), "axes"))
    inputs = [quantized(site, x), _weight(site, layer)]
    if layer.bias is not None:
        inputs.append(site.constant(layer.bias.numpy(), "bias"))
    y: ir.Value = site.op.ConvTranspose(
        *inputs,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=[*layer.padding, *layer.padding],
        output_padding=layer.output_padding,
        dilations=layer.dilation,
        group=layer.groups,
    )
    site.form = LayerForm(False, "floating point: there are no integer kernels of transposed convolutions")
    return y if batched else site.op.Squeeze(y, site.constant(np.array([0]), "axes"))


def _weight(site: Site, layer: PackedConvTranspose) -> ir.Value:
    """In torch's layout [in, out / groups, *kernel]."""
    split = (layer.groups, layer.out_channels // layer.groups, layer.in_channels // layer.groups, *layer.kernel_size)
    order = (0, 2, 1, *range(3, len(split)))
    if layer.groups == 1 and not is_grouped(layer):
        return dequantized(site, lambda codes: codes.reshape(split).transpose(order)[0], 1)
    matrix = dequantized(site)
    ordered = site.op.Transpose(site.op.Reshape(matrix, site.constant(np.array(split), "shape")), perm=order)
    weight: ir.Value = site.op.Reshape(ordered, site.constant(np.array(tuple(layer.shape)), "shape"))
    return weight
