"""Which formats take the same time in eqnet's own engine."""

from __future__ import annotations

import pytest

from eqnet import Format, LayerFormat
from eqnet.search.latency.eqnet import OwnEngine
from eqnet.space import Layer

CONV = Layer("conv", "Conv2d", rows=4, cols=27, macs=1, inputs=1, has_bias=True, folded=True)
LINEAR = Layer("linear", "Linear", rows=5, cols=32, macs=1, inputs=1)


def parsed(text: str) -> LayerFormat:
    weight, _, activation = text.partition(" ")
    return LayerFormat(Format.parse(weight), Format.parse(activation) if activation else None)


def kinds(layer: Layer, whole: bool, *texts: str) -> int:
    return len({OwnEngine(whole).stand_in(layer, parsed(text)) for text in texts})


@pytest.mark.parametrize("layer", [CONV, LINEAR], ids=lambda layer: layer.kind)
def test_in_a_program_only_groups_and_codes_beyond_a_byte_count(layer: Layer) -> None:
    alike = ["int2:tensor uint8:tensor", "uint7:channel uint3:tensor", "int8:group32 int8:tensor"]
    assert kinds(layer, True, *alike) == 1
    assert kinds(layer, True, alike[0], "uint8:channel uint8:tensor", "int4:group16 uint8:tensor") == 3


def test_kernels_of_packed_weights_depend_on_what_they_read() -> None:
    assert kinds(LINEAR, False, "int4:tensor", "int4:channel", "int4:group32", "int4:group64") == 1
    assert (
        kinds(LINEAR, False, "int4:tensor uint2:tensor", "int4:channel uint8:tensor", "int4:channel int8:tensor") == 1
    )
    different = ["int4:channel", "int5:channel", "uint4:channel", "int4:group16", "int4:channel uint8:tensor"]
    assert kinds(LINEAR, False, *different) == len(different)


def test_layers_that_unpack_in_each_call_depend_on_the_whole_weight() -> None:
    different = ["int4:channel", "int4:group16", "uint4:channel", "int3:channel", "int4:channel uint8:tensor"]
    assert kinds(CONV, False, *different) == len(different)
    assert kinds(CONV, False, "int4:tensor", "int4:channel") == 1, "the batch norm makes one scale a channel"
