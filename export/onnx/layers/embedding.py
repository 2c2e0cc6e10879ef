"""Embeddings: of the table, only the rows that are asked for are dequantized."""

from __future__ import annotations

from typing import cast

import onnx_ir as ir

from eqnet.export.onnx.blocked import DOMAIN, BlockedWeight, stored_codes
from eqnet.export.onnx.blocks import Blocks, blocks_for
from eqnet.export.onnx.options import LayerForm
from eqnet.export.onnx.planes import first
from eqnet.export.onnx.registry import Site, writes
from eqnet.export.onnx.standard import standard_rows
from eqnet.packed.layers import PackedEmbedding


@writes(PackedEmbedding)
def write_embedding(site: Site) -> ir.Value:
    """``GatherBlockQuantized``, or ``Gather`` and ``DequantizeLinear``."""
    layer = cast(PackedEmbedding, site.layer)
    assert site.x is not None
    blocks = blocks_for(layer, site.options.portable)
    if blocks is None or blocks.spread:
        site.form = LayerForm(False, "rows, dequantized: Gather, DequantizeLinear")
        return standard_rows(site, site.x)

    site.form = LayerForm(False, "rows, dequantized: GatherBlockQuantized")
    return _gathered(site, site.x, blocks)


def _gathered(site: Site, indices: ir.Value, blocks: Blocks) -> ir.Value:
    """Float32 [..., cols]."""
    weight, op = site.layer.weight, site.op
    bits = 4 if weight.format.bits <= 4 else 8
    blocked, stored = BlockedWeight(site, blocks, weight), stored_codes(site, weight)
    codes = stored.bytes(op) if bits == 8 else stored.part(op)
    zero_points = blocked.zero_points(0, bits, explicit=True)
    attributes = {"bits": bits, "block_size": blocks.size, "gather_axis": 0, "quantize_axis": 1}
    inputs = [codes, indices, blocked.scales(), zero_points]
    rows = op.op("GatherBlockQuantized", inputs, attributes, domain=DOMAIN)
    return first(op, rows, stored.cols, weight.cols, site.rank)
