"""Elastic convolutions: integers, padding, memory formats and weights that two of them share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eqnet
from eqnet import Choices, Supernet
from eqnet.layers import ElasticConv1d

FLOAT32 = 1e-5
"""Sums of a few dozen float32 products in another order, as a share of the largest output."""


def elastic(layer: nn.Module, x: Tensor, text: str) -> Supernet:
    made = eqnet.elasticize(nn.Sequential(layer), Choices.parse(f"{text} edge=none"), x)
    made.calibrate([x])
    made.activate(made.space.subnet([0]))
    return made.eval()


@pytest.mark.parametrize("text", ["w=3:channel:sym a=4:asym", "w=5:channel:asym a=2:asym", "w=8:tensor:asym a=8:sym"])
@pytest.mark.parametrize(
    ("groups", "outputs"), [(1, 3), (2, 6), (4, 4), (4, 8)], ids=["dense", "grouped", "depthwise", "multiplied"]
)
def test_it_computes_what_an_integer_engine_does(
    groups: int, outputs: int, text: str, generator: torch.Generator
) -> None:
    """Codes less zero points are multiplied and added as integers; the scales and the bias come last."""
    x = torch.randn(2, 4, 11, generator=generator) + 1
    made = elastic(nn.Conv1d(4, outputs, 3, stride=2, dilation=2, groups=groups), x, text)
    layer = made.elastic["0"]
    assert isinstance(layer, ElasticConv1d)
    assert layer.format is not None
    assert layer.format.activation is not None
    assert layer.input_quantizer is not None
    weight_scale, weight_zero = layer.weight_quantizer.expanded(layer.format.weight, 1)
    input_scale, input_zero = layer.input_quantizer.expanded(layer.format.activation, 1)
    weight = layer.weight_quantizer.codes(layer.weight, layer.format.weight).numpy().astype(np.int64)
    weight -= weight_zero.numpy().astype(np.int64)[:, :, None]
    inputs = layer.input_quantizer.codes(x, layer.format.activation).numpy().astype(np.int64) - int(input_zero)
    found = made(x).detach().numpy()
    integers = np.zeros(found.shape, dtype=np.int64)
    width = 4 // groups
    for sample, output, position, tap in product(range(2), range(outputs), range(found.shape[2]), range(3)):
        group = output // (outputs // groups)
        read = inputs[sample, group * width : (group + 1) * width, 2 * position + 2 * tap]
        integers[sample, output, position] += read @ weight[output, :, tap]
    scales = (input_scale * weight_scale).double().numpy()
    assert layer.bias is not None
    expected = integers * scales[None] + layer.bias.detach().numpy()[None, :, None]
    assert np.abs(found - expected).max() <= FLOAT32 * np.abs(expected).max()


@pytest.mark.parametrize("form", ["asym", "sym"])
def test_the_zeros_of_the_padding_are_exact(form: str, generator: torch.Generator) -> None:
    """Padding comes after the input is quantized, and an engine pads before: both have to be zero, far from it too."""
    x = torch.randn(2, 3, 5, 5, generator=generator) + 20
    made = elastic(nn.Conv2d(3, 4, 3, padding=(2, 1)), x, f"w=4:channel:sym a=3:{form}")
    layer = made.elastic["0"]
    padded = layer.quantized_input(F.pad(x, (1, 1, 2, 2)))
    assert not padded[:, :, :2].any()
    expected = F.conv2d(padded, layer.quantized_weight(), layer.get_parameter("bias"))
    assert (made(x) - expected).abs().max() <= FLOAT32 * expected.abs().max()


def test_a_convolution_of_one_pixel_is_a_linear_layer(generator: torch.Generator) -> None:
    conv, linear = nn.Conv2d(6, 5, 1), nn.Linear(6, 5)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.flatten(1))
        linear.bias.copy_(conv.bias)  # type: ignore[arg-type]
    x = torch.randn(7, 6, generator=generator)
    text = "w=3:group4:asym a=3:asym"
    expected = elastic(linear, x, text)(x)
    found = elastic(conv, x[:, :, None, None], text)(x[:, :, None, None])
    assert torch.allclose(found.flatten(1), expected, atol=FLOAT32)


@pytest.mark.parametrize("text", ["w=3:group5:asym a=4:asym", "w=2:channel:sym a=float"])
def test_channels_last_changes_nothing(text: str, generator: torch.Generator) -> None:
    x = torch.randn(2, 4, 7, 6, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Conv2d(4, 6, 3, groups=2)
    expected = elastic(plain, x, text)(x)
    last = plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    y = x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(elastic(last, y, text)(y), expected, atol=FLOAT32)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d], ids=lambda kind: kind.__name__)
def test_one_image_and_no_image_are_taken(kind: Callable[..., nn.Module], generator: torch.Generator) -> None:
    x = torch.randn(2, 3, 5, 5, generator=generator)
    made = elastic(kind(3, 2, 3), x, "w=4:channel:asym a=4:asym")
    assert torch.allclose(made(x[0]), made(x)[0], atol=FLOAT32), "without a dimension for the batch"
    assert made(x[:0]).shape == (0, *made(x).shape[1:])


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv1d(4, 6, 3, dilation=2, groups=2), (3, 4, 12), 6 * 8 * (2 * 3)),
        (nn.Conv2d(5, 5, 3, 2, padding=1, groups=5), (3, 5, 7, 7), 5 * 16 * 9),
        (nn.Conv3d(2, 3, (1, 2, 3)), (3, 2, 4, 4, 4), 3 * (4 * 3 * 2) * (2 * 6)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (3, 4, 5), (4 * 5) * (3 * 3)),
        (nn.ConvTranspose2d(3, 4, 2), (3, 3, 4, 4), (3 * 16) * (4 * 4)),
    ],
    ids=["Conv1d, grouped", "Conv2d, depthwise", "Conv3d", "ConvTranspose1d, grouped", "ConvTranspose2d"],
)
def test_multiplications_of_one_sample_by_hand(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    """Those with the zeros of a padding count: engines do them too."""
    assert eqnet.elasticize(layer, None, torch.zeros(shape)).space.layers[0].macs == macs


class Shared(nn.Module):
    """Two layers over one weight, the second reads what the first gives."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        second.weight = first.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.relu(self.first(x)))
        return y


@pytest.mark.parametrize(
    ("first", "second", "sizes"),
    [
        (lambda: nn.Conv1d(4, 4, 3, groups=2), lambda: nn.Conv1d(4, 4, 3, groups=2), {"first": (4, 6)}),
        (lambda: nn.Conv1d(3, 4, 3), lambda: nn.ConvTranspose1d(4, 3, 3), {"first": (4, 9), "second": (3, 12)}),
        (
            lambda: nn.ConvTranspose1d(4, 4, 3, groups=2),
            lambda: nn.ConvTranspose1d(4, 2, 3),
            {"first": (4, 6), "second": (2, 12)},
        ),
    ],
    ids=["alike", "transposed", "in other groups"],
)
def test_a_shared_weight_is_stored_once_for_each_way_it_is_read(
    first: Callable[[], nn.Module],
    second: Callable[[], nn.Module],
    sizes: dict[str, tuple[int, int]],
    generator: torch.Generator,
) -> None:
    model = Shared(first(), second())
    x = torch.randn(2, model.first.in_channels, 8, generator=generator)  # type: ignore[call-overload]
    made = eqnet.elasticize(model, Choices.parse("w=3:channel:sym a=8:asym edge=none"), x)
    made.calibrate([x])
    assert torch.equal(made(x), model(x))
    (tied,) = made.space.sets
    assert {layer.name: (layer.rows, layer.cols) for layer in tied.layers if layer.stored} == sizes
    made.activate(made.space.subnet([0]))
    made(x)
    for layer in made.elastic.values():
        assert layer.format is not None
        codes = layer.weight_quantizer.codes(layer.matrix(), layer.format.weight)
        stored = layer.weight_quantizer.dequantize(codes, layer.format.weight)
        assert torch.equal(layer.quantized_weight(), layer.from_matrix(layer, stored, layer.weight.shape))
