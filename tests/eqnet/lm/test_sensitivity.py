"""The divergence of an error, against its definition in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqnet.lm.sensitivity import Sensitivity

FLOAT32 = 1e-6
"""Relative; sums of a few hundred terms in float32."""


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 7), (16, 8), (65, 130), (70, 577)])
def test_divergence_is_half_the_weighted_quadratic_form(rows: int, cols: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * cols, cols, generator=generator)
    hessian, outputs = x.T @ x, torch.rand(rows, generator=generator)
    error = torch.randn(2 * rows, cols, generator=generator)[::2]
    sensitivity = Sensitivity({"layer": hessian}, {"layer": outputs})
    e, h, f = (part.double().numpy() for part in (error, hessian, outputs))
    forms = np.array([row @ h @ row for row in e])
    assert sensitivity.divergence("layer", error) == pytest.approx(0.5 * f @ forms, rel=FLOAT32)
    drawn = sensitivity.drawn("layer", 9, seed=1)
    expected = 0.5 * f.sum() * forms[drawn.numpy()].mean()
    assert sensitivity.divergence("layer", error[drawn], drawn) == pytest.approx(expected, rel=FLOAT32)
