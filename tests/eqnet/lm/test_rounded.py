"""Weights that are trained on their codes, against the same written out in operations that torch differentiates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.lm.methods import METHODS
from eqnet.lm.rounded import Rates, RoundedWeight
from eqnet.packed.tensor import PackedTensor

ROWS, COLS = 6, 40

FORMATS = [
    "int2:channel",
    "uint3:channel",
    "int4:group16",
    "uint4:group32",
    "uint5:group64",
    "int8:group40",
]
"""Groups that fill the columns, that leave a shorter one, and one that is longer than all columns."""


@dataclass(frozen=True)
class Case:
    """A weight, and codes of it that are not the nearest ones throughout."""

    exact: Tensor
    packed: PackedTensor


@pytest.fixture(params=FORMATS)
def case(request: pytest.FixtureRequest) -> Case:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(ROWS, COLS, generator=generator) + 0.3
    x = torch.randn(64, COLS, generator=generator) @ torch.randn(COLS, COLS, generator=generator)
    return Case(exact, METHODS["gptq"].quantize(exact, Format.parse(request.param), torch.float16, x.T @ x / 64))


def expanded(values: Tensor, packed: PackedTensor) -> Tensor:
    """One value for each weight."""
    return values.repeat_interleave(packed.format.group_size or COLS, 1)[:, :COLS]


def test_training_begins_at_the_codes_that_are_there(case: Case) -> None:
    weight = RoundedWeight(case.exact, case.packed)
    assert torch.equal(weight(), case.packed.dequantize())
    stored = weight.packed()
    assert torch.equal(stored.integers(), case.packed.integers())
    assert torch.equal(stored.scale, case.packed.scale)


def test_what_is_trained_is_what_is_stored(case: Case) -> None:
    weight = RoundedWeight(case.exact, case.packed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight.place += 3 * torch.randn(weight.place.shape, generator=generator)
        weight.log_scale += 0.1 * torch.randn(weight.log_scale.shape, generator=generator)
    stored = weight.packed()
    assert torch.equal(weight(), stored.dequantize())
    assert not torch.equal(stored.integers(), case.packed.integers())
    assert torch.equal(weight(torch.bfloat16), stored.dequantize().bfloat16())


def test_gradients_go_straight_through_the_rounding(case: Case) -> None:
    weight = RoundedWeight(case.exact, case.packed)
    wanted = torch.randn(ROWS, COLS, generator=torch.Generator().manual_seed(2))
    (weight() * wanted).sum().backward()
    scale = case.packed.scale.float().requires_grad_()
    centred = (case.packed.integers() - expanded(case.packed.zero_points(), case.packed)).float().requires_grad_()
    (centred * expanded(scale, case.packed) * wanted).sum().backward()
    gradients = (scale.grad, centred.grad, weight.place.grad, weight.log_scale.grad)
    of_scale, of_centred, of_place, of_log_scale = (gradient for gradient in gradients if gradient is not None)
    torch.testing.assert_close(of_place.flatten(1)[:, :COLS], of_centred)
    # Of the logarithm of a scale: that of the scale, times it.
    torch.testing.assert_close(of_log_scale, of_scale * scale.detach(), rtol=1e-4, atol=1e-5)


def test_codes_stay_when_places_do_not_learn(case: Case) -> None:
    weight = RoundedWeight(case.exact, case.packed)
    Rates(scales=0.01, places=0.0).train([weight], 3, lambda _: (weight() - case.exact).square().sum())
    stored = weight.packed()
    assert torch.equal(stored.codes, case.packed.codes)
    assert not torch.equal(stored.scale, case.packed.scale)


def test_scales_are_of_the_type_that_is_stored(case: Case) -> None:
    packed = replace(case.packed, scale=case.packed.scale.bfloat16())
    weight = RoundedWeight(case.exact, packed)
    with torch.no_grad():
        weight.log_scale += 0.003
    assert weight.packed().scale.dtype == torch.bfloat16
    assert torch.equal(weight(), weight.packed().dequantize())
