"""Programs and linear layers as bytes: what comes back computes the same, and takes no more room than it is packed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eqnet import _kernels
from eqnet.export.tvm.kernels.serialized import serialized_layers, serialized_program
from eqnet.packed.layers import PackedLinear
from eqnet.packed.model import PackedModel
from eqnet.runtime import IntegerProgram, UnsupportedError, compile
from tests.eqnet.runtime.networks import Formats, packed

FORMATS = (
    "int8:tensor × int8:tensor",
    "uint2:channel × uint4:tensor",
    "int3:group5 × uint8:tensor",
    "uint5:group16 × uint7:tensor",
)
NUMBERS = 1000
"""Bytes that a program of some layers may take beside its weights: operations and biases."""


class Chain(nn.Module):
    """Convolutions, one of which is called twice, then a linear layer on all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, (3, 2), (1, 2), (1, 0), bias=False)
        self.second = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.third = nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.last = nn.Linear(16 * 3 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = nn.functional.max_pool2d(torch.relu(self.first(x)), 3, 1, 1)
        b = nn.functional.relu6(self.second(self.second(a)) + a)
        c = nn.functional.avg_pool2d(nn.functional.hardtanh(b + a), 2, 2, count_include_pad=False)
        return self.last(torch.cat([self.third(c), c], 1).flatten(1))


def chain(formats: str) -> tuple[PackedModel, Tensor]:
    """A packed ``Chain`` of random codes, and images for it."""
    generator = torch.Generator().manual_seed(3)
    return packed(Chain(), Formats.parse(formats), generator), torch.randn(3, 3, 6, 8, generator=generator)


def again(data: bytes, example: Tensor, vector: bool = True) -> IntegerProgram:
    """The program of serialized bytes."""
    return IntegerProgram(_kernels.read_program(data), tuple(example.shape[1:]), vector)


@pytest.mark.parametrize("formats", FORMATS)
def test_programs_come_back_as_they_were(formats: str) -> None:
    model, x = chain(formats)
    data, shape = serialized_program(model, x)
    assert shape == (3, 5)
    assert again(data, x)(x).equal(compile(model, x)(x))
    weights = {id(layer.codes): layer.weight for layer in model.layers.values()}.values()
    assert 0 < len(data) - sum(weight.nbytes for weight in weights) < NUMBERS


def test_scales_of_16_bits_stay_so() -> None:
    model, x = chain("uint4:group5 × uint8:tensor")
    for layer, dtype in zip(model.layers.values(), (torch.float16, torch.bfloat16) * 2, strict=True):
        layer.scale = layer.scale.to(dtype)
    data, _ = serialized_program(model, x)
    assert again(data, x)(x).equal(compile(model, x)(x))


def test_layers_that_share_a_weight_store_it_once() -> None:
    layer = chain("int8:channel × uint8:tensor")[0].layers["last"]
    assert isinstance(layer, PackedLinear)
    one, two = (len(serialized_layers(dict.fromkeys(names, layer))) for names in ("a", "ab"))
    assert two - one == 36 + 4 * layer.rows  # nine numbers and the bias


def test_networks_that_are_no_program_are_refused() -> None:
    class Softmax(Chain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(1)

    model = packed(Softmax(), Formats.parse(FORMATS[0]), torch.Generator().manual_seed(3))
    with pytest.raises(UnsupportedError, match=r"\(softmax\): integer programs have no such operation"):
        serialized_program(model, torch.zeros(1, 3, 6, 8))


def test_values_with_too_many_scales_are_refused() -> None:
    class Fan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([layer(x) for layer in self.layers], 1)

    model = packed(Fan(), Formats.parse(FORMATS[0]), torch.Generator().manual_seed(3))
    with pytest.raises(UnsupportedError, match="more than 4 layers read one value with scales of their own"):
        serialized_program(model, torch.zeros(1, 4))


def test_damaged_bytes_are_refused() -> None:
    data = bytearray(serialized_program(*chain(FORMATS[0]))[0])
    data[-9] ^= 4
    with pytest.raises(ValueError, match="the checksum is wrong: the bytes are damaged or incomplete"):
        _kernels.read_program(bytes(data))
