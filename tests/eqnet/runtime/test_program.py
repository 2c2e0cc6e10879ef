"""Whole networks and every operation between layers, against float64."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.errors import InputError, ModelError
from eqnet.runtime import UnsupportedError, compile
from eqnet.tasks.networks import DigitsNet, MobileNet, ResNet
from tests.eqnet.runtime.networks import ISAS, Formats, InFloat64, in_float64, packed

W8A8 = Formats.parse("int8:channel × uint8:tensor")
W4A8 = Formats.parse("uint4:channel × int8:tensor")

TIE = 1e-4
"""In codes: an input so close to the middle between two codes may go to either, as it has been rounded to float32."""

ROUNDING = 2e-5
"""Relative to the largest result, where no input was close to the middle between two codes."""

TRIES = 50
"""Inputs to draw until none of their values is close to the middle between two codes."""


class Calls(nn.Module):
    """A convolution, what is under test, and layers that read its result with two scales."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second, self.third = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.first(x))
        return self.second(y) + self.third(y)


class Head(nn.Module):
    """A convolution, from images to vectors, and a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(features, 5), function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.function(self.first(x)))
        return y


class Sums(nn.Module):
    """Residual sums of every order of layers and activations, and one of an input with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(x + self.a(x))
        y = self.b(y).relu() + y
        y = self.c(y).add(self.b(y)).clamp(max=2)
        return torch.add(y, y) + F.relu6(self.a(y))


class InPlace(nn.Module):
    """Changes its results after others have taken them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = self.b(y)
        self.relu(y)
        z += y
        F.hardtanh(z, -0.5, 1.5, inplace=True)
        return z


def vector(function: Callable[[Tensor], Tensor], features: int = 6) -> Callable[[], nn.Module]:
    return lambda: Head(function, features)


def image(function: Callable[[Tensor], Tensor], channels: int = 6) -> Callable[[], nn.Module]:
    return lambda: Calls(function, channels)


OPERATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": image(F.relu),
    "relu module": image(nn.ReLU()),
    "relu6": image(F.relu6),
    "hardtanh": image(nn.Hardtanh(-0.25, 0.75)),
    "clamp below": image(lambda x: x.clamp(min=-0.1)),
    "clamps": image(lambda x: torch.clamp(x.clamp(-1, 0.5), 0.2, 3)),
    "relu of the input": lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 1)),
    "nothing": image(lambda x: F.dropout(x, training=False).contiguous()),
    "dropout module": image(nn.Dropout(0.3)),
    "max pool": image(lambda x: F.max_pool2d(x, 3, 2, 1)),
    "max pool module": image(nn.MaxPool2d((2, 3))),
    "relu and max pool": image(lambda x: F.max_pool2d(F.relu(x), 2)),
    "mean pool": image(nn.AvgPool2d(3, 1, 1)),
    "mean pool without padding": image(lambda x: F.avg_pool2d(x, 2, (1, 2), 1, count_include_pad=False).relu()),
    "padding": image(lambda x: F.pad(x, (1, 0, 2, 3))),
    "padding module": image(nn.ZeroPad2d((0, 1, 0, 2))),
    "concatenation": image(lambda x: torch.cat([x, F.relu(x), x], 1), 18),
    "sums": Sums,
    "in place": InPlace,
    "flatten": vector(lambda x: x.flatten(1), 6 * 7 * 5),
    "flatten module": vector(nn.Flatten(), 6 * 7 * 5),
    "view": vector(lambda x: x.view(x.size(0), -1), 6 * 7 * 5),
    "reshape of a mean": vector(lambda x: x.mean((-1, -2), keepdim=True).relu().reshape(x.shape[0], 6)),
    "mean": vector(lambda x: torch.mean(x, dim=[2, 3])),
    "pool of images": vector(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    "greatest of images": vector(lambda x: F.adaptive_max_pool2d(x, (1, 1)).flatten(1)),
    "linear layers": lambda: nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2)),
}


def apart_from_ties(reference: nn.Module, draw: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs for which no layer's input is close to the middle between two codes, and the result for them."""
    layers = [module for module in reference.modules() if isinstance(module, InFloat64)]
    for _ in range(TRIES):
        x = draw()
        for layer in layers:
            layer.margin = 0.5
        expected = reference(x.double())
        if min(layer.margin for layer in layers) > TIE:
            return x, expected
    raise AssertionError("no such inputs were found")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_equal_float64(name: str, isa: str, generator: torch.Generator) -> None:
    shape = (3,) if name == "linear layers" else (3, 7, 5)
    for formats in (W8A8, W4A8):
        model = packed(OPERATIONS[name](), formats, generator)
        program = compile(model, torch.zeros(2, *shape), isa=isa)
        x, expected = apart_from_ties(in_float64(model), lambda: torch.randn(2, *shape, generator=generator))
        result = program(x)
        assert result.shape == expected.shape
        assert ((result - expected).abs() <= ROUNDING * expected.abs().max()).all()


NETWORKS = {"resnet": ResNet, "mobilenet": MobileNet, "digits": DigitsNet}

FLIPPED = 0.02
"""Relative to the range of the results: a few codes of thousands that went to the other side of a tie."""


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("formats", [W8A8, W4A8, Formats.parse("uint3:group16 × uint6:tensor")], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_their_packed_models(name: str, formats: Formats, isa: str, generator: torch.Generator) -> None:
    model = NETWORKS[name]()
    for module in list(model.modules()):
        for leaf, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, leaf, nn.Identity())
    packed_model = packed(model, formats, generator)
    x = torch.randn(4, 1, 28, 28, generator=generator)
    program = compile(packed_model, x[:1], isa=isa)
    with torch.no_grad():
        expected = packed_model(x)
    assert ((program(x) - expected).abs() <= FLIPPED * (expected.max() - expected.min())).all()


def test_any_batch_and_any_size_of_image(generator: torch.Generator) -> None:
    model = packed(ResNet(), W8A8, generator)
    for module in list(model.model.modules()):
        for leaf, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, leaf, nn.Identity())
    program = compile(model, torch.zeros(2, 1, 28, 28))
    for height, width in ((28, 28), (9, 13), (1, 1), (28, 28)):
        x = torch.randn(19, 1, height, width, generator=generator)
        alone = torch.cat([program(image) for image in x.split(1)])
        for batch in (19, 3, 2):
            assert torch.equal(program(x[:batch]), alone[:batch])
        torch.set_num_threads(2)  # conftest.py restores it
        assert torch.equal(program(x), alone)
        assert torch.equal(program(x[:1]), alone[:1])
        torch.set_num_threads(1)
    assert program(x.transpose(2, 3).contiguous().transpose(2, 3)).equal(alone)


def test_memory_is_shared_between_values(generator: torch.Generator) -> None:
    layers = [nn.Conv2d(8, 8, 1) for _ in range(20)]
    program = compile(packed(nn.Sequential(*layers), W8A8, generator), torch.zeros(1, 8, 16, 16))
    # The input's and one layer's codes, a byte each, at a time; at the end the result in floating point.
    assert program.arena_bytes(16, 16) < 8 * 16 * 16 * 6


def test_calls_from_several_threads(generator: torch.Generator) -> None:
    model = packed(nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)), W8A8, generator)
    program = compile(model, torch.zeros(1, 1, 12, 12))
    inputs = [torch.randn(3, 1, 12, 12, generator=generator) for _ in range(8)]
    expected = [program(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(program, inputs), expected))


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if x.sum() > 0 else x


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class ManyReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self.layers], 1)


UNSUPPORTED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "operation": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid()), r"layer '1' \(Sigmoid\)"),
    "function": (lambda: Function(torch.tanh), r"operation 'tanh' \(tanh\)"),
    "control flow": (Branches, "Branches cannot be traced"),
    "several results": (Pair, "return one tensor"),
    "number": (lambda: Function(lambda x: x + 1), "only two results"),
    "broadcast": (lambda: Function(lambda x: x + x.mean((2, 3), keepdim=True)), "one size"),
    "mean of channels": (lambda: Function(lambda x: x.mean(1)), r"\(1,\)"),
    "reflected": (lambda: nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "'reflect'"),
    "padding of ones": (lambda: Function(lambda x: F.pad(x, (1, 1), value=1.0)), "zeros"),
    "pooled padding": (lambda: Function(lambda x: F.max_pool2d(F.pad(x, (1, 1)), 2)), "only convolutions"),
    "dilated pool": (lambda: nn.MaxPool2d(2, dilation=2), "dilation"),
    "rows": (lambda: Function(lambda x: torch.cat([x, x], 2)), "only channels"),
    "transposed": (lambda: Function(lambda x: x.view(2, 5, 7, 3)), "become vectors"),
    "linear on images": (lambda: nn.Linear(5, 2), r"shape \(2, 3, 7, 5\)"),
    "scales": (ManyReaders, "more than 4 layers"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_unsupported_is_named(name: str, generator: torch.Generator) -> None:
    make, message = UNSUPPORTED[name]
    model = packed(make(), W8A8, generator)
    with pytest.raises(UnsupportedError, match=message):
        compile(model, torch.zeros(2, 3, 7, 5))


def test_floating_point_inputs_are_unsupported(generator: torch.Generator) -> None:
    model = packed(nn.Sequential(nn.Conv2d(3, 3, 1)), W8A8, generator)
    layer = next(iter(model.layers.values()))
    layer.input_format = layer.input_scale = layer.input_zero_point = None
    with pytest.raises(UnsupportedError, match=r"layer '0' reads floating point \(int8:channel × float\)"):
        compile(model, torch.zeros(2, 3, 7, 5))


def test_inputs_are_checked(generator: torch.Generator) -> None:
    model = packed(nn.Sequential(nn.Conv2d(3, 3, 3)), W8A8, generator)
    program = compile(model, torch.zeros(2, 3, 7, 5))
    with pytest.raises(InputError, match=r"expected inputs of shape \[N, 3, 7, 5\]; found \[2, 4, 7, 5\]"):
        program(torch.zeros(2, 4, 7, 5))
    with pytest.raises(InputError, match=r"float64"):
        program(torch.zeros(2, 3, 7, 5, dtype=torch.float64))
    with pytest.raises(InputError, match=r"kernel 3x3, of an image of \[3, 2, 9\]"):
        program(torch.zeros(2, 3, 2, 9))
    with pytest.raises(ModelError, match="does not run on the example"):
        compile(model, torch.zeros(2, 4, 7, 5))
    with pytest.raises(UnsupportedError, match="2 values"):
        compile(model, (torch.zeros(2, 3, 7, 5), torch.zeros(1)))
    with pytest.raises(InputError, match="no instruction set 'sse9'"):
        compile(model, torch.zeros(2, 3, 7, 5), isa="sse9")


def test_inputs_far_out_of_range(generator: torch.Generator) -> None:
    model = packed(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)), W8A8, generator)
    x = torch.tensor([3e38, -3e38, torch.inf, -torch.inf]).view(4, 1, 1, 1)
    for isa in ISAS:
        result = compile(model, x, isa=isa)(x)
        assert torch.allclose(result.double(), in_float64(model)(x))
