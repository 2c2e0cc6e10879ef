"""Methods that round each weight to the nearest code: ``rtn``, and ``mse`` with a range that was searched for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.lm.methods.base import Codes, Method, assemble, groups
from eqnet.lm.methods.ranges import Lanes, Range, full_range, searched_range
from eqnet.packed.tensor import PackedTensor

_WEIGHTS = 1 << 20
"""Weights that are rounded at a time, so that what is made on the way stays small beside the weight."""

_Rule = Callable[[Tensor, Lanes, slice], Range]
"""The ranges of some groups [g, n], which are these columns."""


class RoundToNearest(Method):
    """Round to nearest, in the range from the smallest to the largest weight.

    With ``int4:channel`` and ``int8:channel`` these are the codes of GLM-130B (arXiv 2210.02414, sec. 3.4).
    """

    name: ClassVar[str] = "rtn"

    def _quantized(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> list[PackedTensor]:
        def rule(x: Tensor, lanes: Lanes, columns: slice) -> Range:
            return full_range(x, lanes, scale_dtype)

        return [_rounded(weight, fmt, scale_dtype, rule) for fmt in formats]


class RangeSearch(Method):
    """Round to nearest, in the range of least squared error, weighted by the Hessian's diagonal if there is one."""

    name: ClassVar[str] = "mse"

    def _quantized(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> list[PackedTensor]:
        importance = None if hessian is None else hessian.diagonal()

        def rule(x: Tensor, lanes: Lanes, columns: slice) -> Range:
            return searched_range(x, lanes, scale_dtype, None if importance is None else importance[columns])

        return [_rounded(weight, fmt, scale_dtype, rule) for fmt in formats]


def _rounded(weight: Tensor, fmt: Format, scale_dtype: torch.dtype, rule: _Rule) -> PackedTensor:
    rows, cols = weight.shape
    height = max(1, _WEIGHTS // cols)
    parts = [_rounded_rows(weight[i : i + height], fmt, rule) for i in range(0, rows, height)]
    return assemble(parts, fmt, scale_dtype)


def _rounded_rows(weight: Tensor, fmt: Format, rule: _Rule) -> Codes:
    codes, ranges, lanes = [], [], Lanes.of([fmt], len(weight))
    for columns in groups(fmt, weight.shape[1]):
        x = weight[:, columns].T.contiguous()
        found = rule(x, lanes, columns)
        stored = (x / found.scale).round_().add_(found.zero_point).clamp_(fmt.qmin, fmt.qmax).sub_(fmt.qmin)
        codes.append(stored.to(torch.uint8))
        ranges.append(found)
    scale, zero_point = (torch.stack([getattr(r, name) for r in ranges], 1) for name in ("scale", "zero_point"))
    return Codes(torch.cat(codes).T.contiguous(), scale, zero_point)
