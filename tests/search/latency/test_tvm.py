"""Networks and layers in TVM's runtime."""

from __future__ import annotations

import torch
from torch import nn

import eqnet
from eqnet import Choices, Format, LayerFormat
from eqnet.export.tvm import write_tvm
from eqnet.search.latency.kernels import packed_layer, packed_network
from eqnet.search.latency.tvm import stand_in, tvm
from eqnet.space import Layer

ROUNDING = 1e-5
"""Relative to the largest result: sums in float32, in another order."""

ROW = tvm("tvm-llvm", lambda packed, path, x, calibration: write_tvm(packed, path, x))


def parsed(text: str) -> LayerFormat:
    weight, _, activation = text.partition(" ")
    return LayerFormat(Format.parse(weight), Format.parse(activation) if activation else None)


def test_kernels_depend_on_the_weight_but_for_what_all_channels_share() -> None:
    layer = Layer("linear", "Linear", rows=5, cols=32, macs=1, inputs=1)

    def kinds(*texts: str) -> int:
        return len({stand_in(layer, parsed(text)) for text in texts})

    assert kinds("int4:tensor uint8:tensor", "int4:channel int3:tensor", "int4:group32 uint8:tensor") == 1
    different = ["int4:channel", "int3:channel", "uint4:channel", "int4:group16", "int4:channel uint8:tensor"]
    assert kinds(*different) == len(different)


def test_networks_and_layers_alone_are_run_and_right() -> None:
    x = torch.randn(1, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)).eval()
    supernet = eqnet.elasticize(model, Choices.parse("w=3:channel:sym a=8:asym edge=none"), x)
    packed = packed_network(supernet, supernet.space.subnet([0, 0]))
    engine = ROW.opened(packed, x, supernet.space, 1)
    between = torch.randn(1, 4 * 6 * 6)
    linear = packed_layer(supernet.elastic["3"], supernet.space.layers[1], parsed("uint5:channel uint8:tensor"), 32)
    (layer,) = engine.layers([linear], between)
    for found, expected in ((engine.network(packed, x)(), packed(x)), (layer(), linear(between))):
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * float(expected.abs().max()))
