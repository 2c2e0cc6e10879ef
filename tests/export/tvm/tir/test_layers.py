"""Single layers as TIR against float64: every kind of shape and of format, on every instruction for dot products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from eqnet.export.tvm.tir.dots import Dot
from eqnet.packed.model import PackedModel
from tests.eqnet.runtime.networks import Formats, in_float64, packed
from tests.export.tvm.tir.modules import RUNNABLE, Module

ROUNDING = 1e-6
"""Relative to the sum of the absolute products: a few roundings of float32 (6e-8 each) of an exact integer sum, or of
as many as there are groups."""

MOST_OFF = 0.9
"""Of half a code, that inputs are from a code at most: a value half-way between two may go to either."""

FORMATS = (
    "int8:channel × uint8:tensor",
    "uint8:channel × int8:tensor",
    "uint4:channel × uint8:tensor",
    "int2:channel × uint4:tensor",
    "uint3:group4 × uint8:tensor",
    "uint8:group8 × uint7:tensor",
    "int6:tensor × int3:tensor",
    "int4:group16 × uint5:tensor",
    "uint5:tensor × uint6:tensor",
    "uint7:group5 × uint2:tensor",
    "uint2:group32 × int4:tensor",
    "int3:channel × uint8:tensor",
    "int7:channel × uint8:tensor",
    "uint6:channel × uint8:tensor",
    "int8:group8 × uint8:tensor",
)

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one pixel": (lambda: nn.Conv2d(5, 3, 1), (5, 1, 1)),
    "1×1": (lambda: nn.Conv2d(24, 40, 1), (24, 5, 7)),
    "1×1, tiles of vectors that overlap": (lambda: nn.Conv2d(17, 105, 1), (17, 3, 7)),
    "1×1, shared by threads": (lambda: nn.Conv2d(64, 80, 1, stride=2), (64, 21, 23)),
    "3×3": (lambda: nn.Conv2d(8, 16, 3, padding=1), (8, 6, 5)),
    "3×3 of a smaller image": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 1, 2)),
    "3×3 of whole vectors, channels shared by threads": (lambda: nn.Conv2d(32, 160, 3, padding=1), (32, 4, 9)),
    "one channel": (lambda: nn.Conv2d(1, 16, 3, padding=1, bias=False), (1, 7, 19)),
    "three channels, stride 2": (lambda: nn.Conv2d(3, 18, 3, stride=2, padding=1), (3, 9, 21)),
    "1×7 beside 2×1": (lambda: nn.Conv2d(6, 33, (1, 7), stride=(2, 1), padding=(0, 3)), (6, 5, 9)),
    "dilated": (lambda: nn.Conv2d(5, 20, 3, padding=(2, 3), dilation=(2, 3)), (5, 9, 7)),
    "dilated, of 4 channels": (lambda: nn.Conv2d(4, 6, 2, padding=1, dilation=2), (4, 5, 6)),
    "same, an even kernel": (lambda: nn.Conv2d(4, 6, (2, 4), padding="same"), (4, 5, 6)),
    "valid": (lambda: nn.Conv2d(2, 65, 2, padding="valid"), (2, 4, 4)),
    "grouped": (lambda: nn.Conv2d(12, 40, 3, padding=1, groups=2), (12, 5, 4)),
    "grouped 1×1": (lambda: nn.Conv2d(15, 9, 1, groups=3), (15, 3, 3)),
    "depthwise of 3": (lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3), (3, 5, 9)),
    "depthwise of 20": (lambda: nn.Conv2d(20, 20, 3, padding=1, groups=20), (20, 4, 11)),
    "depthwise of 40, stride 2": (lambda: nn.Conv2d(40, 40, 5, stride=2, padding=2, groups=40), (40, 9, 7)),
    "depthwise of 70, dilated": (lambda: nn.Conv2d(70, 70, 3, padding=2, dilation=2, groups=70), (70, 5, 6)),
    "depthwise, a long kernel": (lambda: nn.Conv2d(33, 33, (1, 27), padding=(0, 13), groups=33), (33, 2, 30)),
    "two outputs a channel": (lambda: nn.Conv2d(7, 14, 3, padding=1, groups=7), (7, 4, 5)),
    "linear": (lambda: nn.Linear(37, 10), (37,)),
    "linear, wide": (lambda: nn.Linear(130, 150), (130,)),
    "linear of one": (lambda: nn.Linear(1, 1), (1,)),
}

OF_EACH = {True: 2, False: 1}
"""Formats of each layer, with the best instruction and with another; together all of them."""


def cases(number: int, best: bool) -> list[str]:
    """The formats in which a layer is tested."""
    each = OF_EACH[best]
    return [FORMATS[(number + k * len(FORMATS) // each) % len(FORMATS)] for k in range(each)]


def apart_from_ties(x: torch.Tensor, model: PackedModel) -> torch.Tensor:
    """``x``, moved to less than half a code from the code that it has."""
    (layer,) = model.layers.values()
    assert layer.input_scale is not None  # as of all random layers
    codes = x / layer.input_scale
    return (codes.round() + MOST_OFF * (codes - codes.round())) * layer.input_scale


@pytest.fixture(scope="module", params=RUNNABLE, ids=lambda dot: dot.name if dot else "none")
def dot(request: pytest.FixtureRequest) -> Dot | None:
    """The instruction that is used."""
    result: Dot | None = request.param
    return result


@pytest.fixture(scope="module")
def module(dot: Dot | None) -> Module:
    """All layers in all of their formats."""
    generator = torch.Generator().manual_seed(0)
    networks = {}
    for i, (make, shape) in enumerate(LAYERS.values()):
        for text in cases(i, dot is RUNNABLE[0]):
            networks[f"layer{i}_{FORMATS.index(text)}"] = packed(make(), Formats.parse(text), generator), shape
    return Module(networks, dot)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch says so once
@pytest.mark.parametrize("name", LAYERS)
def test_equals_float64(name: str, dot: Dot | None, module: Module, generator: torch.Generator) -> None:
    number = list(LAYERS).index(name)
    for text in cases(number, dot is RUNNABLE[0]):
        key = f"layer{number}_{FORMATS.index(text)}"
        model, shape = module.networks[key]
        x = apart_from_ties(2 * torch.randn(3, *shape, generator=generator), model)
        expected, bound = in_float64(model)(x), ROUNDING * in_float64(model, absolute=True)(x)
        assert ((module(key, x) - expected).abs() <= bound).all(), text
        assert ((module(key, x[1:2]) - expected[1:2]).abs() <= bound[1:2]).all(), text
        assert module(key, x[:0]).shape == expected[:0].shape
