"""``gptq``: what rounding one column loses, the columns behind it make good (Frantar et al., ICLR 2023).

With the layer's Hessian ``H = mean x xᵀ`` and ``H⁻¹ = Uᵀ U`` (U upper triangular), rounding column j with the error
``e = w_j - ŵ_j`` costs ``e² / U_jj²``, and ``w_k -= (e / U_jj) · U_jk`` for all k > j loses the least.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.formats import Format
from eqnet.lm.methods.base import Method
from eqnet.lm.methods.codes import Codes, codes_of

DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to the diagonal, as in the paper."""


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

    def _codes(
        self, weight: Tensor, formats: Sequence[Format], scale_dtype: torch.dtype, hessian: Tensor | None
    ) -> Iterator[Codes]:
        assert hessian is not None
        importance, order = hessian.diagonal(), None
        if self.by_activation:
            order = importance.argsort(descending=True, stable=True)
            hessian = hessian[order][:, order]
        upper, damping = inverse_factor(hessian, self.damping)
        if order is None:
            importance = upper.diagonal().reciprocal().square()
        factor = upper.T.contiguous()
        for fmt in formats:
            codes = codes_of(weight, fmt, scale_dtype, searched=True, importance=importance, factor=factor, order=order)
            assert codes.forms is not None
            # They are those of the damped Hessian; what is left of the difference of two sums may be below 0.
            forms = codes.forms - damping * codes.error.square().sum(1)
            yield replace(codes, forms=forms.clamp_(min=0.0))


def inverse_factor(hessian: Tensor, damping: float = DAMPING) -> tuple[Tensor, float]:
    """U, upper triangular, with ``Uᵀ U`` the inverse of the damped Hessian, float32 [cols, cols]; and what damps it.

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
        return torch.eye(len(hessian)), 1.0
    for times in (1, 10, 100, 1000):
        damped = hessian.flip(0, 1)
        added = damping * times * mean
        damped.diagonal().add_(added)
        lower, failed = torch.linalg.cholesky_ex(damped)
        del damped
        if not bool(failed):
            upper = lower.flip(0, 1)
            del lower
            identity = torch.eye(len(hessian), dtype=hessian.dtype)
            inverse: Tensor = torch.linalg.solve_triangular(upper, identity, upper=True)
            return inverse, added
    raise ModelError("the Hessian of its inputs is not positive definite; give more or other calibration text")
