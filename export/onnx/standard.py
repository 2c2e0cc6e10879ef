"""Packed weights in operators of the standard alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import Tensor

from eqnet.export.onnx.blocked import stored_codes, stored_scales, stored_zero_points
from eqnet.export.onnx.codes import tensor
from eqnet.export.onnx.planes import Planes, byte, first
from eqnet.export.onnx.registry import Site
from eqnet.packed.tensor import PackedTensor


def standard_product(site: Site, x: ir.Value) -> ir.Value:
    """``x`` times the weight of the layer.

    The weight is written as [cols, rows], the order in which ONNX Runtime recognises the product and, unless its
    session is told otherwise, rounds inputs to 8 bits. It is not where an embedding that shares it has written it.

    Args:
        site: of the layer.
        x: float32 [..., cols].

    Returns:
        float32 [..., rows].
    """
    weight = site.layer.weight
    if Planes.are_stored(site, "weight", weight.format.bits, weight.codes):
        return site.op.MatMul(x, site.op.Transpose(standard_weight(site), perm=[1, 0]))
    return site.op.MatMul(x, _transposed(site, weight))


def standard_weight(site: Site) -> ir.Value:
    """The weight of the layer, float32 [rows, cols], from the form in which embeddings have it."""
    weight = site.layer.weight
    return _dequantized(site, stored_codes(site, weight), stored_scales(site, weight), stored_zero_points(site, weight))


def standard_rows(site: Site, indices: ir.Value) -> ir.Value:
    """Some rows of the weight of the layer, of which no others are dequantized.

    Args:
        site: of the layer.
        indices: integers, of one dimension less than the result.

    Returns:
        float32 [..., cols].
    """
    weight, op, rank = site.layer.weight, site.op, site.rank - 1
    codes, scale = stored_codes(site, weight).rows(op, indices, rank), stored_scales(site, weight)
    zero_points = stored_zero_points(site, weight)
    if weight.scale.shape[0] > 1:
        scale = op.Gather(scale, indices, axis=0)
        zero_points = zero_points.rows(op, indices, rank) if zero_points is not None else None
    return _dequantized(site, codes, scale, zero_points)


def _dequantized(site: Site, codes: Planes, scale: ir.Value, zero_points: Planes | None) -> ir.Value:
    """Float32 [..., cols], from scales and zero points [..., groups]."""
    weight, op = site.layer.weight, site.op
    groups = weight.scale.shape[1]
    points = byte(op, 1 << weight.format.bits - 1)
    if zero_points is not None:
        points = first(op, zero_points.bytes(op), zero_points.cols, groups, zero_points.rank)
    if weight.scale.numel() == 1:
        scale, points, blocks = op.Squeeze(scale), op.Squeeze(points), {}
    else:
        blocks = {"axis": -1, "block_size": weight.format.group_size if groups > 1 else weight.cols}
        points = points if zero_points is not None else op.Expand(points, op.Shape(scale))
    numbers = first(op, codes.bytes(op), codes.cols, weight.cols, codes.rank)
    return op.DequantizeLinear(numbers, scale, points, **blocks)


def _transposed(site: Site, weight: PackedTensor) -> ir.Value:
    """Float32 [cols, rows]."""
    fmt, op = weight.format, site.op
    rows, groups = weight.scale.shape
    if rows * groups == 1:
        shape: list[int] = []
        scales: dict[str, Any] = {}
    elif groups == 1:
        shape, scales = [rows], {"axis": 1}
    else:
        shape, scales = [groups, rows], {"axis": 0, "block_size": fmt.group_size}
    scale = site.shared(lambda: ir.tensor(weight.scale.T.reshape(shape).contiguous()), "scale_T", weight.scale)
    inputs = [
        _integers(site, "weight_T", weight.codes, lambda: weight.integers().T, [weight.cols, weight.rows]),
        scale if scale.dtype == ir.DataType.FLOAT else op.Cast(scale, to=ir.DataType.FLOAT),
    ]
    if weight.zero_point is not None:
        points = lambda: weight.zero_points().T.reshape(shape)  # noqa: E731
        inputs.append(_integers(site, "zero_point_T", weight.zero_point, points, shape))
    return op.DequantizeLinear(*inputs, **scales)


def _integers(site: Site, name: str, packed: Tensor, made: Callable[[], Tensor], shape: list[int]) -> ir.Value:
    """Codes or zero points in the narrowest type, and from there in one for which ONNX Runtime has fast kernels."""
    fmt = site.layer.weight_format
    dtype = tensor(np.empty(0, np.int8), fmt).dtype
    lazy = ir.LazyTensor(lambda: tensor(made().numpy(), fmt), dtype=dtype, shape=ir.Shape(shape))
    value = site.shared(lambda: lazy, name, packed)
    return site.op.Cast(value, to=_WIDENED[dtype]) if dtype in _WIDENED else value


_WIDENED = {ir.DataType.INT2: ir.DataType.INT4, ir.DataType.UINT2: ir.DataType.UINT4}
"""Types of codes, and those in which ONNX Runtime multiplies exactly as fast as in floating point."""
