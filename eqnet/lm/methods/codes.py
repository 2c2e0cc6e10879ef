"""Codes of a weight, made by the kernel that all methods share (``cpp/include/eqnet/weight_codes.h``)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.errors import ModelError
from eqnet.formats import Format
from eqnet.ops.panels import SCALE_TYPES, address
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor


@dataclass(frozen=True, eq=False)
class Codes:
    """A weight, quantized and not yet packed.

    Attributes:
        format: of the codes.
        stored: codes less the smallest one of the format, uint8 [rows, cols].
        scale: of the type in which they are stored, [rows, groups].
        zero_point: integers in float32, [rows, groups]; 0 if symmetric.
        error: dequantized codes less the weight, float32 [rows, cols].
        forms: ``error H errorᵀ`` of each row, with the layer's Hessian H, float64 [rows]; None where the method does
            without them.
    """

    format: Format
    stored: Tensor
    scale: Tensor
    zero_point: Tensor
    error: Tensor
    forms: Tensor | None = None

    def packed(self) -> PackedTensor:
        """What is stored."""
        rows, cols = self.stored.shape
        zero_point = None if self.format.symmetric else pack(self.zero_point.to(torch.uint8), self.format.bits)
        return PackedTensor(
            self.format, rows, cols, pack(self.stored, self.format.bits), self.scale, zero_point=zero_point
        )


def codes_of(
    weight: Tensor,
    fmt: Format,
    scale_dtype: torch.dtype,
    *,
    searched: bool,
    importance: Tensor | None = None,
    factor: Tensor | None = None,
    order: Tensor | None = None,
) -> Codes:
    """Codes of a weight.

    Args:
        weight: finite, float32 [rows, cols].
        fmt: per channel or per group.
        scale_dtype: in which scales are stored; they are rounded to it before codes are chosen.
        searched: whether ranges are those of least ``Σ importance · (x - dequantized x)²``, or else go from the
            smallest weight of a group to the largest.
        importance: of the errors of each column, not negative, float32 [cols]; 1 for all if None.
        factor: for error compensation, lower triangular, float32 [cols, cols]: column j, rounded with the error e,
            takes ``e / factor[j, j] · factor[k, j]`` from all columns k behind it.
        order: in which columns are rounded, int64 [cols], which is also that of ``factor``; from left to right if None.

    Returns:
        Codes; with a factor, their forms are those of the matrix whose inverse is ``factor factorᵀ``.

    Raises:
        ModelError: a scale is too large for ``scale_dtype``.
    """
    rows, cols = weight.shape
    shape = fmt.scale_shape(rows, cols)
    stored, error = torch.empty((rows, cols), dtype=torch.uint8), torch.empty((rows, cols))
    scale, zero_point = torch.empty(shape), torch.empty(shape)
    forms = None if factor is None else torch.empty(rows, dtype=torch.float64)
    weight = weight.contiguous()
    importance, factor, order = (part if part is None else part.contiguous() for part in (importance, factor, order))
    largest_scale, largest_weight = _kernels.weight_codes(
        address(weight),
        rows,
        cols,
        fmt.bits,
        fmt.symmetric,
        fmt.group_size or cols,
        SCALE_TYPES[scale_dtype],
        searched,
        address(importance),
        address(factor),
        address(order),
        address(stored),
        address(scale),
        address(zero_point),
        address(error),
        address(forms),
        torch.get_num_threads(),
    )
    if largest_scale > torch.finfo(scale_dtype).max:
        raise ModelError(
            f"its weight reaches {largest_weight:.3g}, which takes a scale of {largest_scale:.3g}: too large for "
            f"{str(scale_dtype).removeprefix('torch.')}; take scale=fp32"
        )
    return Codes(fmt, stored, scale.to(scale_dtype), zero_point, error, forms)
