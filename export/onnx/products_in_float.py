"""Products of inputs in floating point with packed weights, by ONNX Runtime's MatMulNBits.

Codes are multiplied four bits at a time, the only width with kernels for products in floating point on a CPU: wider
ones are the sum of two products, narrower ones are widened when the file is opened. Products whose inputs are rounded
to 8 bits, which ``compute="int8"`` asks for, have kernels for 8 bits as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from torch import Tensor

from eqnet.export.onnx.blocked import DOMAIN, BlockedWeight
from eqnet.export.onnx.blocks import Blocks
from eqnet.export.onnx.planes import integers
from eqnet.export.onnx.registry import Site

_ACCURACY = {"float": 1, "int8": 4}
"""ONNX Runtime's ``accuracy_level`` by ``PackedLayer.compute``: the type to which it may round inputs."""


def multiplied(site: Site, x: ir.Value, blocks: Blocks, bias: Tensor | None = None, compute: str = "float") -> ir.Value:
    """``x`` times the weight of the layer, plus ``bias``.

    Args:
        site: of the layer.
        x: float32 [..., cols], of as many dimensions as the result.
        blocks: of the weight.
        bias: float32 [rows].
        compute: see ``PackedLayer.compute``.

    Returns:
        float32 [..., rows].
    """
    layer, op = site.layer, site.op
    attributes = {
        "K": blocks.cols,
        "N": layer.rows,
        "block_size": blocks.size,
        "accuracy_level": _ACCURACY[compute],
    }
    x = _spread(site, x, blocks)
    result = None
    for term in _terms(site, BlockedWeight(site, blocks, layer.weight), compute):
        inputs = [x, term.codes, term.scale, term.zero_point]
        if bias is not None and result is None:
            inputs += [None, site.constant(bias.numpy(), "bias")]
        while inputs[-1] is None:
            inputs.pop()
        product = op.op("MatMulNBits", inputs, {**attributes, "bits": term.bits}, domain=DOMAIN)
        result = product if result is None else op.Add(result, product)
    assert result is not None
    return result


@dataclass(frozen=True)
class _Term:
    """A part of a weight, of 4 or 8 bits, as ``BlockedWeight`` has them."""

    bits: int
    codes: ir.Value
    scale: ir.Value
    zero_point: ir.Value | None


def _terms(site: Site, weight: BlockedWeight, compute: str) -> Iterator[_Term]:
    """What to multiply with: (low half + 16 · high half) · scale, both less their half of the zero point."""
    bits, scale = weight.weight.format.bits, weight.scales()
    if bits > 4 and compute == "int8":
        yield _Term(8, weight.codes(0, 8), scale, weight.zero_points(0, 8))
        return
    for start in range(0, bits, 4):
        if start:
            scale = site.op.Mul(scale, site.op.Constant(value=ir.tensor(np.float32(1 << start))))
        yield _Term(4, weight.codes(start, 4), scale, weight.zero_points(start, 4))


def _spread(site: Site, x: ir.Value, blocks: Blocks) -> ir.Value:
    """``x`` with zeros where the blocks have some between groups."""
    if not blocks.spread:
        return x
    op, leading = site.op, [0] * (site.rank - 1)

    def filled(x: ir.Value, rank: int, more: int) -> ir.Value:
        return op.Pad(x, integers(op, [*[0] * (2 * rank - 1), more])) if more else x

    x = filled(x, site.rank, blocks.groups * blocks.group - site.layer.cols)
    x = op.Reshape(x, integers(op, [*leading, blocks.groups, blocks.group]))
    x = filled(x, site.rank + 1, blocks.padded - blocks.group)
    return op.Reshape(x, integers(op, [*leading, blocks.cols]))
