"""Elastic linear layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eqnet
from eqnet import Choices, Supernet

FLOAT32 = 1e-5
"""Sums of a dozen float32 products in another order, as a share of the largest output."""


def elastic(layer: nn.Linear, x: Tensor, text: str) -> Supernet:
    made = eqnet.elasticize(nn.Sequential(layer), Choices.parse(f"{text} edge=none"), x)
    made.calibrate([x])
    made.activate(made.space.subnet([0]))
    return made


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return torch.randn(3, 4, 10, generator=generator) + 1


@pytest.mark.parametrize("form", ["tensor:asym", "channel:sym", "group4:asym", "group10:sym"])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_it_computes_what_an_integer_engine_does(bits: int, form: str, x: Tensor) -> None:
    """Codes less zero points are multiplied and added as integers within a group; the scales and the bias come last."""
    made = elastic(nn.Linear(10, 3), x, f"w={bits}:{form} a=4:asym")
    layer = made.elastic["0"]
    assert layer.format is not None
    assert layer.format.activation is not None
    assert layer.input_quantizer is not None
    weight_scale, weight_zero = (
        t.expand(3, 10).numpy() for t in layer.weight_quantizer.expanded(layer.format.weight, 10)
    )
    input_scale, input_zero = layer.input_quantizer.expanded(layer.format.activation, 1)
    weight = layer.weight_quantizer.codes(layer.weight, layer.format.weight).numpy().astype(np.int64)
    weight -= weight_zero.astype(np.int64)
    inputs = layer.input_quantizer.codes(x, layer.format.activation).numpy().astype(np.int64) - int(input_zero)
    expected = np.zeros((3, 4, 3)) + layer.get_parameter("bias").detach().numpy()
    width = layer.format.weight.group_size or 10
    for start in range(0, 10, width):
        group = slice(start, start + width)
        integers = np.einsum("abi,oi->abo", inputs[..., group], weight[:, group])
        expected += integers * float(input_scale) * weight_scale[:, start].astype(np.float64)
    assert np.abs(made(x).detach().numpy() - expected).max() <= FLOAT32 * np.abs(expected).max()


def test_inputs_of_any_number_of_dimensions_are_taken(x: Tensor) -> None:
    made = elastic(nn.Linear(10, 3), x, "w=3:channel:asym a=3:asym")
    whole = made(x)
    assert torch.allclose(made(x.flatten(0, 1)), whole.flatten(0, 1), atol=FLOAT32)
    assert torch.allclose(made(x[0, 0]), whole[0, 0], atol=FLOAT32), "one vector"
    assert torch.allclose(made(x[None, :, None]), whole[None, :, None], atol=FLOAT32)
    assert made(x[:0]).shape == (0, 4, 3)


def test_an_input_that_is_not_contiguous_is_read_like_its_copy(x: Tensor) -> None:
    made = elastic(nn.Linear(4, 3), x.transpose(1, 2), "w=3:channel:asym a=3:asym")
    assert torch.allclose(made(x.transpose(1, 2)), made(x.transpose(1, 2).contiguous()), atol=FLOAT32)
    row = x[0, 0, :4]
    assert torch.allclose(made(row.expand(5, 4)), made(row).expand(5, 3), atol=FLOAT32)


def test_it_may_be_called_by_keyword(x: Tensor) -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(10, 3)

        def forward(self, hidden: Tensor) -> Tensor:
            y: Tensor = self.fc(input=hidden)
            return y

    made = eqnet.elasticize(Keyword(), Choices.parse("w=3:channel:asym a=3:asym edge=none"), {"hidden": x})
    made.calibrate([{"hidden": x}])
    made.activate(made.space.subnet([0]))
    assert torch.equal(made(x), made.elastic["fc"](x))
    assert made.space.layers[0].macs == 4 * 10 * 3


def test_autocast_computes_with_the_quantized_weight_and_input(x: Tensor) -> None:
    made = elastic(nn.Linear(10, 3), x, "w=4:channel:sym a=4:asym")
    layer = made.elastic["0"]
    with torch.autocast("cpu", torch.bfloat16):
        found = made(x)
        expected = F.linear(layer.quantized_input(x), layer.quantized_weight(), layer.get_parameter("bias"))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_a_frozen_weight_stays_frozen_and_its_scales_learn(x: Tensor) -> None:
    made = elastic(nn.Linear(10, 3).requires_grad_(False), x, "w=3:channel:sym a=3:asym")
    made(x).square().sum().backward()
    learned = {name.split(".")[2] for name, parameter in made.named_parameters() if parameter.grad is not None}
    assert learned == {"weight_quantizer", "input_quantizer"}


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_callers_default_dtype_changes_nothing(x: Tensor, double_by_default: None) -> None:
    layer = nn.Linear(10, 3, dtype=torch.float32)
    made = elastic(layer, x, "w=3:group4:asym a=3:asym")
    torch.set_default_dtype(torch.float32)
    again = elastic(layer, x, "w=3:group4:asym a=3:asym")
    assert made.fingerprint() == again.fingerprint()
    assert torch.equal(made(x), again(x))
