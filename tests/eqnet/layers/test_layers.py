"""Every kind of elastic layer computes what PyTorch does with the same quantized weight and input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices
from eqnet.layers import ELASTIC
from eqnet.supernet import Supernet

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear, 2-D": (lambda: nn.Linear(6, 5), (3, 6)),
    "Linear, 3-D, no bias": (lambda: nn.Linear(6, 5, bias=False), (3, 4, 6)),
    "Linear, one output": (lambda: nn.Linear(3, 1), (2, 3)),
    "Conv1d, dilated": (lambda: nn.Conv1d(4, 6, 3, dilation=2), (2, 4, 12)),
    "Conv2d, strided and padded": (lambda: nn.Conv2d(3, 4, 3, 2, padding=1), (2, 3, 7, 7)),
    "Conv2d, padded by reflection": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 5, 5)),
    "Conv2d, same": (lambda: nn.Conv2d(3, 4, (3, 5), padding="same"), (2, 3, 5, 7)),
    "Conv2d, grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 6, 6)),
    "Conv2d, depthwise": (lambda: nn.Conv2d(5, 5, 3, groups=5), (2, 5, 6, 6)),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
    "ConvTranspose1d, grouped": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (2, 4, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1), (2, 3, 4, 4)),
    "ConvTranspose2d, depthwise": (lambda: nn.ConvTranspose2d(4, 4, 3, groups=4, dilation=2), (2, 4, 4, 4)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 3, 2), (2, 2, 3, 3, 3)),
}
FORMS = ["tensor:sym", "channel:asym", "group4:sym", "group7:asym"]


def elastic(layer: nn.Module, x: Tensor, weight: str, inputs: str) -> Supernet:
    made = eqnet.elasticize(nn.Sequential(layer), Choices.parse(f"w={weight} a={inputs} edge=none"), x)
    made.calibrate([x])
    made.activate(made.space.subnet([0]))
    return made.eval()


@pytest.fixture(params=LAYERS, ids=str)
def layer(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...]]:
    build, shape = LAYERS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(), shape


@pytest.mark.parametrize("form", FORMS)
def test_it_computes_with_the_quantized_weight_and_input(
    layer: tuple[nn.Module, tuple[int, ...]], form: str, generator: torch.Generator
) -> None:
    plain, shape = layer
    x = torch.randn(shape, generator=generator)
    made = elastic(plain, x, f"3:{form}", "5:asym")
    module = made.elastic["0"]
    fmt = module.format
    assert fmt is not None
    assert fmt.activation is not None
    assert module.input_quantizer is not None
    with torch.no_grad():
        plain.weight.copy_(module.quantized_weight())  # type: ignore[operator]
        expected = plain(module.input_quantizer(x, fmt.activation))
        torch.testing.assert_close(made(x), expected)  # channels-last, some sums are taken in another order
    values = module.quantized_weight().detach()
    assert not torch.equal(values, module.weight)


def test_each_output_channel_has_a_scale_of_its_own(
    layer: tuple[nn.Module, tuple[int, ...]], generator: torch.Generator
) -> None:
    """The channel is that of the output, also where PyTorch keeps it in the second dimension of the weight."""
    plain, shape = layer
    x = torch.randn(shape, generator=generator)
    made = elastic(plain, x, "8:channel:sym", "8:asym")
    outputs = made(x)
    channel_dim = -1 if isinstance(plain, nn.Linear) else 1
    channels = outputs.shape[channel_dim]
    assert made.space.layers[0].rows == channels
    with torch.no_grad():
        scales = made.elastic["0"].weight_quantizer.log_scale["int8:channel"]
        assert scales.shape == (channels, 1)
        scales[0] += 3.0  # ruins the first output channel, and no other
        changed = (made(x) != outputs).transpose(0, channel_dim).flatten(1).any(1)
    assert changed.tolist() == [True] + [False] * (channels - 1)


def test_gradients_reach_weight_bias_scales_and_input(
    layer: tuple[nn.Module, tuple[int, ...]], generator: torch.Generator
) -> None:
    plain, shape = layer
    x = torch.randn(shape, generator=generator).requires_grad_()
    made = elastic(plain, x.detach(), "3:channel:asym", "3:asym")
    (made(x) ** 2).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if "zero_point" not in name:  # which moves only where values are clipped
            assert parameter.grad.abs().sum() > 0, name


def test_the_matrix_of_a_weight_and_back_is_the_weight(layer: tuple[nn.Module, tuple[int, ...]]) -> None:
    plain, _ = layer
    kind = ELASTIC[type(plain)]
    weight = plain.get_parameter("weight")
    assert torch.equal(kind.from_matrix(plain, kind.to_matrix(plain, weight), weight.shape), weight)
