"""Products of matrices on integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.registry import Site
from eqnet.export.onnx.weights import FINE_ENOUGH, IntegerWeight


def gemm(site: Site, x: ir.Value) -> ir.Value:
    """``Gemm`` on a dequantized ``x`` [n, cols], which becomes ONNX Runtime's QGemm, [n, rows].

    That takes a bias as an integer alone, in units of both scales; where these are too large, or results are to be
    exact, it is added afterwards.
    """
    layer = site.layer
    assert layer.input_scale is not None
    assert layer.input_format is not None
    weight = IntegerWeight.of(layer).transposed()
    if layer.bias is None or site.options.exact or weight.bits + layer.input_format.bits < FINE_ENOUGH:
        weight = IntegerWeight.of(layer, finer=False).transposed()
        return plus_bias(site, site.op.Gemm(x, weight.write(site, 1)))
    unit = (weight.scale * layer.input_scale.numpy()).astype(np.float32)
    bias = np.rint(layer.bias.numpy().astype(np.float64) / unit).astype(np.int32)
    scale = site.constant(np.broadcast_to(unit, bias.shape).copy(), "bias_scale")
    integers = site.op.DequantizeLinear(site.constant(bias, "bias"), scale, axis=0)
    return site.op.Gemm(x, weight.write(site, 1), integers)


def plus_bias(site: Site, product: ir.Value) -> ir.Value:
    """``product`` [..., rows] and the layer's bias, if it has one."""
    bias = site.layer.bias
    return product if bias is None else site.op.Add(product, site.constant(bias.numpy(), "bias"))
