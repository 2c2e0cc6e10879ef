"""Weight distribution regularization and guidance, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.nn import functional as F

from eqnet.losses import divergence, guided, weight_distribution

FLOAT32 = 1e-4
"""Moments of a few hundred values in float32 against float64."""


def test_the_regularization_is_that_of_scipys_moments(generator: torch.Generator) -> None:
    weights = [torch.randn(4, 3, 3, 3, generator=generator) * 0.02, torch.rand(50, 7, generator=generator) ** 3]
    expected = np.mean(
        [
            1.0 * stats.skew(w.double().flatten().numpy()) ** 2
            + 0.015 * (stats.kurtosis(w.double().flatten().numpy(), fisher=False) - 1.8) ** 2
            for w in weights
        ]
    )
    assert weight_distribution(weights).item() == pytest.approx(expected, rel=FLOAT32)


def test_the_uniform_distribution_costs_nothing() -> None:
    assert weight_distribution([torch.linspace(-1, 1, 10001)]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e30], ids=str)
def test_it_does_not_depend_on_the_size_of_the_weights(scale: float, generator: torch.Generator) -> None:
    weight = torch.randn(100, generator=generator)
    assert weight_distribution([weight * scale]).item() == pytest.approx(weight_distribution([weight]).item(), rel=1e-3)


@pytest.mark.parametrize("weights", [[], [torch.zeros(5)], [torch.full((5,), 0.3)]], ids=["none", "zeros", "constant"])
def test_constant_weights_cost_nothing(weights: list[torch.Tensor]) -> None:
    assert weight_distribution(weights).item() == 0


def test_its_gradient_is_that_of_finite_differences(generator: torch.Generator) -> None:
    weight = torch.randn(12, generator=generator)
    weight.requires_grad_()
    weight_distribution([weight]).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    step = 1e-2
    for i in range(12):
        delta = torch.zeros(12)
        delta[i] = step
        with torch.no_grad():
            change = weight_distribution([weight + delta]) - weight_distribution([weight - delta])
        assert weight.grad[i].item() == pytest.approx(change.item() / (2 * step), rel=2e-2, abs=1e-3)


def test_the_divergence_is_scipys(generator: torch.Generator) -> None:
    outputs, reference = torch.randn(2, 5, 4, 7, generator=generator).double() * 3
    p, q = special.softmax(reference.numpy(), -1), special.softmax(outputs.numpy(), -1)
    expected = special.rel_entr(p, q).sum(-1).mean()
    assert divergence(outputs, reference).item() == pytest.approx(expected, rel=FLOAT32)
    assert divergence(outputs, outputs).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_guidance_mixes_labels_and_guide(share: float, generator: torch.Generator) -> None:
    outputs = torch.randn(6, 4, generator=generator).requires_grad_()
    guide = torch.randn(6, 4, generator=generator).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    loss = guided(F.cross_entropy(outputs, labels), outputs, guide, share)
    by_hand = (
        share
        * stats.entropy(
            special.softmax(guide.detach().numpy(), -1), special.softmax(outputs.detach().numpy(), -1), axis=1
        ).mean()
        + (1 - share) * -special.log_softmax(outputs.detach().numpy(), -1)[np.arange(6), labels.numpy()].mean()
    )
    assert loss.item() == pytest.approx(by_hand, rel=FLOAT32)
    loss.backward()  # type: ignore[no-untyped-call]
    assert guide.grad is None, "the guide learns nothing from the guided"
