"""What is expected of the codes that a bank keeps, whichever way it comes by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.lm import bank
from eqnet.lm.bank import Bank, Shared
from eqnet.lm.methods import METHODS
from eqnet.lm.sensitivity import Sensitivity

FLOAT32 = 1e-4
"""Relative; losses are sums of squares in float32."""

LAYERS = Shared(("embedding", "head"), hessian="head")
FORMAT = Format.parse("uint3:group32")


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(70, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def sensitivity() -> Sensitivity:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(300, 96, generator=generator) * torch.rand(96, generator=generator)
    inputs = {"embedding": torch.rand(96, generator=generator).diag(), "head": x.T @ x}
    return Sensitivity(inputs, {path: torch.rand(70, generator=generator) for path in inputs})


@pytest.mark.parametrize("method", METHODS)
def test_nats_are_those_of_the_errors_in_all_layers(method: str, weight: Tensor, sensitivity: Sensitivity) -> None:
    entry = Bank(METHODS[method], torch.float16, lambda _: weight, lambda: sensitivity).entry(LAYERS, FORMAT)
    error = entry.weight.dequantize() - weight
    expected = sum(sensitivity.divergence(path, error) for path in LAYERS.paths)
    assert entry.nats == pytest.approx(expected, rel=FLOAT32)


def test_of_many_rows_some_are_drawn(weight: Tensor, sensitivity: Sensitivity, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Bank(METHODS["mse"], torch.float16, lambda _: weight, lambda: sensitivity).entry(LAYERS, FORMAT)
    monkeypatch.setattr(bank, "_DRAWN_ROWS", 60)
    part = Bank(METHODS["mse"], torch.float16, lambda _: weight, lambda: sensitivity).entry(LAYERS, FORMAT)
    assert part.nats != whole.nats
    assert part.nats == pytest.approx(whole.nats, rel=0.5)  # of rows whose shares differ little
