"""Linear layers with a quantized input."""

from __future__ import annotations

from typing import cast

import onnx_ir as ir

from eqnet.export.onnx.blocks import blocks_for
from eqnet.export.onnx.inputs import quantized
from eqnet.export.onnx.options import LayerForm
from eqnet.export.onnx.products import gemm, plus_bias
from eqnet.export.onnx.products_in_float import multiplied
from eqnet.export.onnx.registry import Site, writes
from eqnet.export.onnx.weights import IntegerWeight, dequantized, is_grouped
from eqnet.packed.layers import PackedLinear


@writes(PackedLinear, quantized_input=True)
def write_linear(site: Site) -> ir.Value:
    """``DequantizeLinear, DequantizeLinear → Gemm`` for a matrix, or ``MatMul``, which become integer kernels."""
    layer = cast(PackedLinear, site.layer)
    assert site.x is not None
    x = quantized(site, site.x)
    if is_grouped(layer):
        return _grouped(site, layer, x)
    site.form = LayerForm(True, "integers")
    if site.rank == 2:
        return gemm(site, x)
    weight = IntegerWeight.of(layer, finer=False).transposed()
    product: ir.Value = site.op.MatMul(x, weight.write(site, 1))
    return plus_bias(site, product)


def _grouped(site: Site, layer: PackedLinear, x: ir.Value) -> ir.Value:
    """In floating point, as integer kernels have no scales for groups.

    In operators of the standard the weight is transposed at every run: as [cols, rows], ONNX Runtime would round the
    input a second time.
    """
    site.form = LayerForm(False, "floating point: its weight has scales for groups of inputs")
    blocks = blocks_for(layer, site.options.portable)
    if blocks is not None:
        return multiplied(site, x, blocks, layer.bias)
    if site.rank == 2:
        bias = [site.constant(layer.bias.numpy(), "bias")] if layer.bias is not None else []
        return site.op.Gemm(x, dequantized(site), *bias, transB=1)
    return plus_bias(site, site.op.MatMul(x, site.op.Transpose(dequantized(site), perm=[1, 0])))
