"""Linear layers whose input stays in floating point."""

from __future__ import annotations

from typing import cast

import onnx_ir as ir

from eqnet.export.onnx.blocks import blocks_for
from eqnet.export.onnx.options import LayerForm
from eqnet.export.onnx.products import plus_bias
from eqnet.export.onnx.products_in_float import multiplied
from eqnet.export.onnx.registry import Site, writes
from eqnet.export.onnx.standard import standard_product
from eqnet.packed.layers import PackedLinear


@writes(PackedLinear, quantized_input=False)
def write_linear(site: Site) -> ir.Value:
    """``MatMulNBits``, or ``DequantizeLinear → MatMul``, which is all that the standard has."""
    layer = cast(PackedLinear, site.layer)
    assert site.x is not None
    blocks = blocks_for(layer, site.options.portable)
    if blocks is None:
        site.form = LayerForm(False, "floating point: DequantizeLinear, MatMul")
        return plus_bias(site, standard_product(site, site.x))
    site.form = LayerForm(False, "floating point: MatMulNBits")
    return multiplied(site, site.x, blocks, layer.bias, layer.compute)
