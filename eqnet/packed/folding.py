"""Batch norms become part of the layer before them."""

from __future__ import annotations

import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor


def fold(
    weight: PackedTensor, bias: Tensor | None, factor: Tensor, shift: Tensor, fmt: Format
) -> tuple[PackedTensor, Tensor]:
    """Weight and bias of a layer that multiplies its output channels by ``factor`` and then adds ``shift``.

    The codes stay as they are; scales are multiplied, and rounded once more to their type. Those of a channel whose
    factor is negative or 0 become so, too.

    Args:
        weight: of the layer alone.
        bias: of the layer alone, float32 [rows]; None if it has none.
        factor: float64 [rows].
        shift: float64 [rows].
        fmt: of the result: that of ``weight``, per channel where that one is per tensor.

    Returns:
        The weight in format ``fmt``, and the bias, float32 [rows].
    """
    shape = fmt.scale_shape(weight.rows, weight.cols)
    scale = (weight.scale.double() * factor[:, None]).to(weight.scale.dtype)
    zero_point = None if fmt.symmetric else pack(weight.zero_points().expand(shape), fmt.bits)
    shifted = shift if bias is None else shift + factor * bias.double()
    return PackedTensor(fmt, weight.rows, weight.cols, weight.codes, scale, zero_point), shifted.to(torch.float32)
