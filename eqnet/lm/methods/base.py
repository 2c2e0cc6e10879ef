"""What every method does: turn one weight matrix into codes, with scales rounded to what they are stored in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eqnet.errors import InputError, ModelError
from eqnet.formats import Format
from eqnet.packed.planes import pack
from eqnet.packed.tensor import SCALE_DTYPES, PackedTensor


class Method(ABC):
    """A way from a weight in floating point to codes.

    Attributes:
        name: as ``--method`` has it.
        needs_hessian: whether it makes use of the inputs that the layer sees; without them it cannot work.
    """

    name: ClassVar[str]
    needs_hessian: ClassVar[bool] = False

    def quantize(
        self, weight: Tensor, fmt: Format, scale_dtype: torch.dtype = torch.float16, hessian: Tensor | None = None
    ) -> PackedTensor:
        """``weight`` in one format; see ``quantize_all``."""
        return self.quantize_all(weight, [fmt], scale_dtype, hessian)[0]

    def quantize_all(
        self,
        weight: Tensor,
        formats: Sequence[Format],
        scale_dtype: torch.dtype = torch.float16,
        hessian: Tensor | None = None,
    ) -> list[PackedTensor]:
        """``weight`` in each of several formats, which is faster than one by one.

        Args:
            weight: finite, float32 [rows, cols]; left as it is.
            formats: per channel or per group.
            scale_dtype: in which scales are stored; they are rounded to it before codes are chosen.
            hessian: the mean of ``x xᵀ`` over the inputs ``x`` of the layer, float32 [cols, cols].

        Raises:
            InputError: a format is per tensor, or what the method needs is missing or of another shape.
            ModelError: the weight holds inf or NaN, or its scales are too large for ``scale_dtype``.
        """
        self._check(weight, formats, scale_dtype, hessian)
        return self._quantized(weight.detach(), formats, scale_dtype, hessian)

    @abstractmethod
    def _quantized(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> list[PackedTensor]:
        """``quantize_all`` on what has been checked."""

    def _check(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> None:
        if weight.ndim != 2 or weight.dtype != torch.float32 or not weight.numel():
            raise InputError(
                f"{self.name}: expected a weight in float32 of shape [rows, cols]; found "
                f"{str(weight.dtype).removeprefix('torch.')} of shape {tuple(weight.shape)}"
            )
        if not torch.isfinite(weight).all():
            raise ModelError("its weight holds inf or NaN; train or load the model again")
        if scale_dtype not in SCALE_DTYPES:
            raise InputError(
                f"{self.name}: scales cannot be stored in {scale_dtype}; choose float16, bfloat16, float32"
            )
        for fmt in formats:
            if fmt.granularity.value == "tensor":
                raise InputError(f"{self.name}: {fmt} has one scale for all; choose :channel or :groupN")
        if hessian is None and self.needs_hessian:
            raise InputError(f"{self.name} needs the Hessian of the layer's inputs; take mse, or give calibration text")
        if hessian is not None and tuple(hessian.shape) != (weight.shape[1],) * 2:
            raise InputError(
                f"{self.name}: a weight of {weight.shape[1]} columns needs a Hessian of as many rows and columns; "
                f"found one of shape {tuple(hessian.shape)}"
            )


@dataclass(frozen=True)
class Codes:
    """Some rows of a weight, quantized and not yet packed.

    Attributes:
        stored: codes less the smallest one of the format, uint8 [rows, cols].
        scale: float32 values of the type in which they are stored, [rows, groups].
        zero_point: integers in float32, [rows, groups]; 0 if symmetric.
    """

    stored: Tensor
    scale: Tensor
    zero_point: Tensor


def assemble(parts: Sequence[Codes], fmt: Format, scale_dtype: torch.dtype) -> PackedTensor:
    """What is stored of all rows, given some after the others."""
    codes = torch.cat([part.stored for part in parts])
    scale = torch.cat([part.scale for part in parts]).to(scale_dtype)
    zero_point = None if fmt.symmetric else torch.cat([part.zero_point for part in parts]).to(torch.uint8)
    return PackedTensor(
        format=fmt,
        rows=codes.shape[0],
        cols=codes.shape[1],
        codes=pack(codes, fmt.bits),
        scale=scale,
        zero_point=None if zero_point is None else pack(zero_point, fmt.bits),
    )


def groups(fmt: Format, cols: int) -> list[slice]:
    """The columns that share a scale, in order; the last of them may be fewer."""
    size = fmt.group_size or cols
    return [slice(start, min(start + size, cols)) for start in range(0, cols, size)]
