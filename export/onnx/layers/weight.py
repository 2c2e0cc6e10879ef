"""Weights that a model uses outside their layers, as language models use that of their embedding for the last layer."""

from __future__ import annotations

import onnx_ir as ir

from eqnet.export.onnx.blocks import blocks_for
from eqnet.export.onnx.products_in_float import multiplied
from eqnet.export.onnx.registry import Site, writes_product, writes_weight
from eqnet.export.onnx.standard import standard_product, standard_weight
from eqnet.packed.layers import PackedEmbedding, PackedLinear


@writes_product(PackedEmbedding, PackedLinear)
def write_product(site: Site) -> ir.Value:
    """As a linear layer without a bias, on what the layer itself has in the file."""
    assert site.x is not None
    blocks = blocks_for(site.layer, site.options.portable)
    if blocks is None:
        return standard_product(site, site.x)
    return multiplied(site, site.x, blocks, compute=site.layer.compute)


@writes_weight(PackedEmbedding, PackedLinear)
def write_weight(site: Site) -> ir.Value:
    """``DequantizeLinear`` of the whole of it, at every run."""
    return standard_weight(site)
