"""The user's description of a space."""

from __future__ import annotations

import pytest

from eqnet.choices import PRESETS, Choices
from eqnet.errors import InputError


def names(text: str, *, edge: bool = False) -> list[str]:
    return [str(fmt) for fmt in Choices.parse(text).formats(edge=edge)]


def test_fields_become_formats() -> None:
    assert names("w=4:channel:sym a=8:asym") == ["int4:channel × uint8:tensor"]
    assert names("w=2,4:tensor,group32:asym a=float") == [
        "uint2:tensor × float",
        "uint2:group32 × float",
        "uint4:tensor × float",
        "uint4:group32 × float",
    ]


def test_the_default_is_every_width_granularity_and_symmetry_of_weights() -> None:
    assert len(names("default")) == (7 * 2 * 2) * 7
    assert names("") == names("default")


def test_edges_keep_one_width_but_every_granularity() -> None:
    assert names("w=2-4:tensor,channel:sym a=2-8:asym edge=8", edge=True) == [
        "int8:tensor × uint8:tensor",
        "int8:channel × uint8:tensor",
    ]
    assert names("w=2-3:tensor:sym a=float edge=none", edge=True) == ["int2:tensor × float", "int3:tensor × float"]
    assert names("w=2-3:tensor:sym a=float edge=6", edge=True) == ["int6:tensor × float"]


@pytest.mark.parametrize("text", [*PRESETS, "w=3:group7:asym,sym a=2,8:asym edge=none scale=fp16", "a=float"])
def test_parse_reads_what_str_writes(text: str) -> None:
    choices = Choices.parse(text)
    assert Choices.parse(str(choices)) == choices


@pytest.mark.parametrize(
    "text",
    [
        "w=1-8",
        "w=2-9",
        "w=8-2",
        "w=",
        "w=4:rows",
        "w=4:group0",
        "w=4:group-5",
        "w=4:group",
        "w=4:32",
        "w=4:channel:both",
        "a=16",
        "a=4:channel",
        "edge=9",
        "edge=4,8",
        "scale=fp8",
        "weights=4",
        "w",
        "nothing",
    ],
)
def test_a_field_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(InputError, match=f"'{text}'"):
        Choices.parse(text)
