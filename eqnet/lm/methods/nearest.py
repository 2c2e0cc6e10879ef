"""Methods that round each weight to the nearest code: ``rtn``, and ``mse`` with a range that was searched for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.lm.methods.base import Method
from eqnet.lm.methods.codes import Codes, codes_of


class RoundToNearest(Method):
    """Round to nearest, in the range from the smallest to the largest weight.

    With ``int4:channel`` and ``int8:channel`` these are the codes of GLM-130B (arXiv 2210.02414, sec. 3.4).
    """

    name: ClassVar[str] = "rtn"

    def _codes(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> Iterator[Codes]:
        for fmt in formats:
            yield codes_of(weight, fmt, scale_dtype, searched=False)


class RangeSearch(Method):
    """Round to nearest, in the range of least squared error, weighted by the Hessian's diagonal if there is one."""

    name: ClassVar[str] = "mse"

    def _codes(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> Iterator[Codes]:
        importance = None if hessian is None else hessian.diagonal()
        for fmt in formats:
            yield codes_of(weight, fmt, scale_dtype, searched=True, importance=importance)
