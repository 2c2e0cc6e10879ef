"""Layers and networks that are made to be timed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import eqnet
from eqnet import Choices, Format, LayerFormat
from eqnet.packed.layers import PackedConv2d, PackedLinear
from eqnet.search.latency.kernels import packed_layer, packed_network


def parsed(text: str) -> LayerFormat:
    weight, _, activation = text.partition(" ")
    return LayerFormat(Format.parse(weight), Format.parse(activation) if activation else None)


@pytest.mark.parametrize("text", ["int3:channel", "uint8:group16", "uint5:channel uint8:tensor", "int8:tensor"])
def test_a_layer_to_be_timed_is_as_the_packed_one_and_leaves_the_elastic_one(text: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(4 * 4 * 4, 5, bias=False))
    made = eqnet.elasticize(model, Choices.parse("w=8 a=8"), torch.zeros(1, 3, 8, 8))
    before = made.fingerprint()
    fmt = parsed(text)
    conv, linear = (packed_layer(made.elastic[one.name], one, fmt, 16) for one in made.space.layers)
    assert isinstance(conv, PackedConv2d)
    assert isinstance(linear, PackedLinear)
    y = linear(conv(torch.randn(2, 3, 8, 8)).flatten(1))
    assert y.shape == (2, 5)
    assert y.isfinite().all()
    assert (conv.weight_format, conv.input_format) == (fmt.weight, fmt.activation)
    assert conv.stride == (2, 2)
    assert conv.bias is not None
    assert linear.bias is None
    assert linear.scale.dtype == torch.float16
    assert made.fingerprint() == before
    assert not any(isinstance(module, PackedConv2d) for module in made.modules())


def test_a_network_to_be_timed_is_built_as_the_packed_one_without_ranges() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    made = eqnet.elasticize(model, Choices.parse("w=2-8:tensor:sym,asym a=8 edge=none"), x)
    subnet, before = made.space.subnet([3, 5]), made.fingerprint()
    random = packed_network(made, subnet)
    assert made.fingerprint() == before
    assert random(x).shape == (2, 5)
    assert random(x).isfinite().all()
    made.calibrate([x])
    real = eqnet.pack(made, subnet)
    assert [type(module) for module in random.model] == [type(module) for module in real.model]
    assert random.nbytes == real.nbytes
    assert {n: layer.weight_format for n, layer in random.layers.items()} == {
        n: layer.weight_format for n, layer in real.layers.items()
    }


def test_inputs_that_are_not_negative_use_all_codes_for_what_is_above_zero() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    made = eqnet.elasticize(model, Choices.parse("w=8 a=8:sym,asym edge=none"), torch.zeros(1, 8))
    symmetric, asymmetric = (parsed(f"int8:tensor {fmt}:tensor") for fmt in ("int8", "uint8"))
    subnet = {"0": asymmetric, "2": asymmetric, "4": symmetric}
    layers = packed_network(made, subnet, nonnegative=["2", "4"]).layers
    assert [int(layer.input_zero_point) for layer in layers.values()] == [128, 0, 0]
    assert len({float(layer.input_scale) for layer in layers.values()}) == 3, "none is merged with another"
    assert int(packed_layer(made.elastic["0"], made.space.layers[0], asymmetric, 32, True).input_zero_point) == 0


def test_channels_share_a_zero_point_in_a_format_of_the_whole_tensor() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32)).eval()
    made = eqnet.elasticize(model, Choices.parse("w=4:tensor,channel:asym a=8 edge=none"), torch.zeros(1, 3, 4, 4))
    (layer,) = made.space.layers
    for text, count in (("uint4:tensor", 1), ("uint4:channel", 16)):
        weight = packed_layer(made.elastic["0"], layer, parsed(text), 32).weight
        assert str(weight.format) == "uint4:channel", "the batch norm makes one scale a channel"
        assert 0.5 * count <= len(weight.zero_points().unique()) <= count
