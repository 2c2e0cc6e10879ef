"""Single layers against float64, in every format and of every kind of shape, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from eqnet.runtime import compile
from tests.eqnet.runtime.networks import ISAS, Formats, in_float64, packed

ROUNDING = 1e-6
"""Relative to the sum of the absolute products: a few roundings of float32 (6e-8 each) of an exact integer sum, or of
as many as there are groups."""

FORMATS = (
    "int8:channel × uint8:tensor",
    "int8:tensor × int8:tensor",
    "uint8:channel × uint8:tensor",
    "uint8:tensor × int5:tensor",
    "int4:channel × uint8:tensor",
    "uint2:channel × uint4:tensor",
    "uint3:group5 × uint8:tensor",
    "uint8:group16 × uint7:tensor",
    "int6:group4 × int3:tensor",
    "uint7:group64 × uint2:tensor",
)

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one pixel": (lambda: nn.Conv2d(5, 3, 1), (5, 1, 1)),
    "1×1": (lambda: nn.Conv2d(24, 40, 1), (24, 5, 7)),
    "1×1, 4 panels and a tail": (lambda: nn.Conv2d(17, 73, 1), (17, 3, 7)),
    "3×3": (lambda: nn.Conv2d(8, 16, 3, padding=1), (8, 6, 5)),
    "3×3 of a smaller image": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 1, 2)),
    "one channel": (lambda: nn.Conv2d(1, 16, 3, padding=1, bias=False), (1, 7, 9)),
    "three channels, stride 2": (lambda: nn.Conv2d(3, 18, 3, stride=2, padding=1), (3, 9, 8)),
    "1×7 beside 2×1": (lambda: nn.Conv2d(6, 33, (1, 7), stride=(2, 1), padding=(0, 3)), (6, 5, 9)),
    "dilated": (lambda: nn.Conv2d(5, 20, 3, padding=(2, 3), dilation=(2, 3)), (5, 9, 7)),
    "same, an even kernel": (lambda: nn.Conv2d(4, 6, (2, 4), padding="same"), (4, 5, 6)),
    "valid": (lambda: nn.Conv2d(2, 65, 2, padding="valid"), (2, 4, 4)),
    "grouped": (lambda: nn.Conv2d(12, 40, 3, padding=1, groups=2), (12, 5, 4)),
    "grouped 1×1": (lambda: nn.Conv2d(15, 9, 1, groups=3), (15, 3, 3)),
    "depthwise of 3": (lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3), (3, 5, 9)),
    "depthwise of 20": (lambda: nn.Conv2d(20, 20, 3, padding=1, groups=20), (20, 4, 11)),
    "depthwise of 40, stride 2": (lambda: nn.Conv2d(40, 40, 5, stride=2, padding=2, groups=40), (40, 9, 7)),
    "depthwise of 70, dilated": (lambda: nn.Conv2d(70, 70, 3, padding=2, dilation=2, groups=70), (70, 5, 6)),
    "depthwise 1×1": (lambda: nn.Conv2d(33, 33, 1, groups=33), (33, 2, 3)),
    "two outputs a channel": (lambda: nn.Conv2d(7, 14, 3, padding=1, groups=7), (7, 4, 5)),
    "linear": (lambda: nn.Linear(37, 10), (37,)),
    "linear, wide": (lambda: nn.Linear(130, 150), (130,)),
    "linear of one": (lambda: nn.Linear(1, 1), (1,)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch says so once
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", LAYERS)
def test_equals_float64(name: str, isa: str, generator: torch.Generator) -> None:
    make, shape = LAYERS[name]
    for text in FORMATS:
        model = packed(make(), Formats.parse(text), generator)
        program = compile(model, torch.zeros(2, *shape), isa=isa)
        x = 2 * torch.randn(3, *shape, generator=generator)
        expected, bound = in_float64(model)(x), ROUNDING * in_float64(model, absolute=True)(x)
        assert ((program(x) - expected).abs() <= bound).all(), text
        assert ((program(x[1:2]) - expected[1:2]).abs() <= bound[1:2]).all(), text
        assert program(x[:0]).shape == expected[:0].shape
