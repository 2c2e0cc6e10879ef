"""``gptq``: what rounding one column loses, the columns behind it make good (Frantar et al., ICLR 2023).

With the layer's Hessian ``H = mean x xᵀ`` and ``H⁻¹ = Uᵀ U`` (U upper triangular), rounding column j with the error
``e = w_j - ŵ_j`` costs ``e² / U_jj²``, and ``w_k -= (e / U_jj) · U_jk`` for all k > j loses the least. Rows do not
depend on each other, and neither do formats: all of them are lanes here, ``[cols, lanes]``, gone through at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.formats import Format
from eqnet.lm.methods.base import Codes, Method, assemble, groups
from eqnet.lm.methods.ranges import Lanes, searched_range
from eqnet.packed.tensor import PackedTensor

DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to the diagonal, as in the paper."""

_BLOCK = 128
"""Columns whose errors reach the columns behind the block in one product."""

_LANES, _ELEMENTS = 8192, 1 << 22
"""Most lanes at a time, and most weights: a block of lanes stays in the cache of a core."""


@dataclass(frozen=True)
class ErrorCompensation(Method):
    """Error compensation, with the ranges of a group searched for on its compensated weights.

    Attributes:
        damping: share of the mean of the Hessian's diagonal that is added to it.
        by_activation: goes through the columns by falling activation instead of from left to right. Groups stay
            where they are, so their ranges are then searched for on the weights as they were.
    """

    name: ClassVar[str] = "gptq"
    needs_hessian: ClassVar[bool] = True
    damping: float = DAMPING
    by_activation: bool = False

    def _quantized(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> list[PackedTensor]:
        assert hessian is not None
        rows, cols = weight.shape
        order = hessian.diagonal().argsort(descending=True, stable=True) if self.by_activation else None
        factor = inverse_factor(hessian if order is None else hessian[order][:, order], self.damping)
        ordered = sorted(set(formats), key=_bundle)
        height = max(1, min(_LANES, _ELEMENTS // cols) // len(ordered))
        parts = []
        for start in range(0, rows, height):
            part = _Part(weight[start : start + height], ordered, scale_dtype, factor)
            parts.append(part.run() if order is None else part.run_by(order, hessian.diagonal()))
        made = {
            fmt: assemble(of_format, fmt, scale_dtype)
            for fmt, of_format in zip(ordered, zip(*parts, strict=True), strict=True)
        }
        return [made[fmt] for fmt in formats]


def inverse_factor(hessian: Tensor, damping: float = DAMPING) -> Tensor:
    """U, upper triangular, with ``Uᵀ U`` the inverse of the damped Hessian, float32 [cols, cols].

    It is found without inverting the Hessian: ``H = R Rᵀ`` with R upper triangular is a Cholesky factorization from
    the last column to the first, and U is the inverse of R. Inputs that were always 0 have nothing but the damping on
    their diagonal; their weights are rounded, and neither give nor take errors.

    Raises:
        ModelError: the Hessian holds inf or NaN, or is not positive definite even when damped a thousand times more.
    """
    if not torch.isfinite(hessian).all():
        raise ModelError("its calibration inputs hold inf or NaN; check the text and the layers before it")
    mean = float(hessian.diagonal().mean())
    if mean <= 0:
        return torch.eye(len(hessian))
    for times in (1, 10, 100, 1000):
        damped = hessian.flip(0, 1)
        damped.diagonal().add_(damping * times * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        del damped
        if not bool(failed):
            upper = lower.flip(0, 1)
            del lower
            identity = torch.eye(len(hessian), dtype=hessian.dtype)
            inverse: Tensor = torch.linalg.solve_triangular(upper, identity, upper=True)
            return inverse
    raise ModelError("the Hessian of its inputs is not positive definite; give more or other calibration text")


def _bundle(fmt: Format) -> tuple[int, bool]:
    """Formats of one bundle are searched for at once: their groups are the same, and so is the way of the search."""
    return fmt.group_size, fmt.symmetric


@dataclass(frozen=True)
class _Group:
    """Groups of a bundle of formats, in all rows.

    Attributes:
        columns: of each of them.
        lanes: where the formats are.
        codes: of these lanes.
    """

    columns: slice
    lanes: slice
    codes: Lanes


class _Part:
    """Some rows of a weight in all formats, one lane each: format by format, and row by row within each."""

    def __init__(self, weight: Tensor, formats: Sequence[Format], dtype: torch.dtype, factor: Tensor) -> None:
        self._rows, self._cols = weight.shape
        self._formats, self._dtype, self._factor = formats, dtype, factor
        self._weight = weight.T.repeat(1, len(formats))
        self._importance = factor.diagonal().reciprocal().square()
        self._groups: list[_Group] = []
        codes: list[Lanes] = []
        for _, bundle in itertools.groupby(formats, _bundle):
            of_bundle = list(bundle)
            lanes = Lanes.of(of_bundle, self._rows)
            start = sum(len(part.lowest) for part in codes)
            place = slice(start, start + len(lanes.lowest))
            self._groups += [_Group(columns, place, lanes) for columns in groups(of_bundle[0], self._cols)]
            codes.append(lanes)
        self._lowest, self._highest = (
            torch.cat([getattr(part, name) for part in codes]) for name in ("lowest", "highest")
        )
        self._scale, self._zero_point = torch.empty_like(self._weight), torch.empty_like(self._weight)
        self._codes = torch.empty(self._weight.shape, dtype=torch.uint8)

    def run(self) -> list[Codes]:
        """From left to right; the codes of each format."""
        starting: dict[int, list[_Group]] = {}
        for group in self._groups:
            starting.setdefault(group.columns.start, []).append(group)
        for block in self._blocks():
            for column in range(block.start, block.stop):
                for group in starting.get(column, ()):
                    self._find(group, self._importance)
                self._round(column, block)
            self._spread(block)
        return self._stored(self._codes)

    def run_by(self, order: Tensor, importance: Tensor) -> list[Codes]:
        """In ``order``; the same of each format."""
        for group in self._groups:
            self._find(group, importance)
        found = self._scale, self._zero_point
        self._weight, self._scale, self._zero_point = self._weight[order], self._scale[order], self._zero_point[order]
        for start in range(0, self._cols, _BLOCK):
            block = slice(start, min(start + _BLOCK, self._cols))
            for column in range(block.start, block.stop):
                self._round(column, block)
            self._spread(block)
        self._scale, self._zero_point = found
        return self._stored(torch.empty_like(self._codes).index_copy_(0, order, self._codes))

    def _blocks(self) -> list[slice]:
        """Such that wherever a group begins, all its columns have the errors of those before: it fits, or begins it."""
        starts = {*range(0, self._cols, _BLOCK)}
        for fmt in self._formats:
            if fmt.group_size and _BLOCK % fmt.group_size:
                starts.update(columns.start for columns in groups(fmt, self._cols))
        bounds = [*sorted(starts), self._cols]
        return [slice(*pair) for pair in itertools.pairwise(bounds)]

    def _find(self, group: _Group, importance: Tensor) -> None:
        """Searches for the ranges of a group."""
        place = group.columns, group.lanes
        found = searched_range(self._weight[place], group.codes, self._dtype, importance[group.columns])
        self._scale[place], self._zero_point[place] = found.scale, found.zero_point

    def _round(self, column: int, block: slice) -> None:
        """Rounds a column, and makes the others of its block take its error."""
        weight, scale, zero_point = self._weight[column], self._scale[column], self._zero_point[column]
        codes = (weight / scale).round_().add_(zero_point).clamp_(self._lowest, self._highest)
        self._codes[column] = codes - self._lowest
        # The column becomes its error, which is all that is still needed of it.
        weight.addcmul_(codes.sub_(zero_point), scale, value=-1).div_(self._factor[column, column])
        if column + 1 < block.stop:
            behind = slice(column + 1, block.stop)
            self._weight[behind].addcmul_(self._factor[column, behind, None], weight[None], value=-1)

    def _spread(self, block: slice) -> None:
        """Makes all columns behind a block take its errors."""
        if block.stop < self._cols:
            factor = self._factor[block, block.stop :].T
            self._weight[block.stop :].addmm_(factor, self._weight[block], alpha=-1)

    def _stored(self, codes: Tensor) -> list[Codes]:
        parts = []
        for index, fmt in enumerate(self._formats):
            lanes = slice(index * self._rows, (index + 1) * self._rows)
            first = [columns.start for columns in groups(fmt, self._cols)]
            scale, zero_point = (part[first, lanes].T for part in (self._scale, self._zero_point))
            parts.append(Codes(codes[:, lanes].T.contiguous(), scale.contiguous(), zero_point.contiguous()))
        return parts
