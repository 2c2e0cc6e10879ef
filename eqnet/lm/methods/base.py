"""What every method does: turn one weight matrix into codes, with scales rounded to what they are stored in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from eqnet.errors import InputError, ModelError
from eqnet.formats import Format
from eqnet.lm.methods.codes import Codes
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
        """``weight`` in one format, as it is stored; see ``codes``."""
        (codes,) = self.codes(weight, [fmt], scale_dtype, hessian)
        return codes.packed()

    def codes(
        self,
        weight: Tensor,
        formats: Sequence[Format],
        scale_dtype: torch.dtype = torch.float16,
        hessian: Tensor | None = None,
    ) -> Iterator[Codes]:
        """The codes of ``weight`` in each of several formats, made when they are asked for.

        Args:
            weight: finite, float32 [rows, cols]; left as it is.
            formats: per channel or per group.
            scale_dtype: in which scales are stored; they are rounded to it before codes are chosen.
            hessian: the mean of ``x xᵀ`` over the inputs ``x`` of the layer, float32 [cols, cols].

        Raises:
            InputError: a format is per tensor, or what the method needs is missing or of another shape.
            ModelError: the weight holds inf or NaN, or its scales are too large for ``scale_dtype``; the latter when
                the codes are asked for.
        """
        self._check(weight, formats, scale_dtype, hessian)
        return self._codes(weight.detach(), formats, scale_dtype, hessian)

    @abstractmethod
    def _codes(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> Iterator[Codes]:
        """``codes`` of what has been checked."""

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
