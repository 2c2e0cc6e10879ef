"""Products of matrices on integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.registry import Site
from eqnet.export.onnx.weights import IntegerWeight


def gemm(site: Site, x: ir.Value, weight: IntegerWeight) -> ir.Value:
    """``Gemm`` on a dequantized ``x`` [n, cols] and codes [cols, rows]: ONNX Runtime's QGemm.

    It takes the bias as an integer alone, in units of both scales.
    """
    layer = site.layer
    inputs = [x, weight.write(site, 1, with_zero_point=True)]
    if layer.bias is not None:
        assert layer.input_scale is not None
        unit = (weight.scale * layer.input_scale.numpy()).astype(np.float32)
        bias = np.rint(layer.bias.numpy().astype(np.float64) / unit).astype(np.int32)
        scale = site.constant(np.broadcast_to(unit, bias.shape).copy(), "bias_scale")
        inputs.append(site.op.DequantizeLinear(site.constant(bias, "bias"), scale, axis=0))
    return site.op.Gemm(*inputs)


def plus_bias(site: Site, product: ir.Value) -> ir.Value:
    """``product`` [..., rows] and the layer's bias, if it has one."""
    bias = site.layer.bias
    return product if bias is None else site.op.Add(product, site.constant(bias.numpy(), "bias"))
