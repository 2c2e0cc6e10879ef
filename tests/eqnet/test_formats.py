"""Formats say what codes there are, and read what they write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnet.errors import InputError
from eqnet.formats import Format, Granularity, LayerFormat

FORMATS = st.builds(
    lambda bits, symmetric, size: Format(
        bits,
        symmetric,
        size if isinstance(size, Granularity) else Granularity.GROUP,
        0 if isinstance(size, Granularity) else size,
    ),
    st.integers(2, 8),
    st.booleans(),
    st.one_of(st.sampled_from([Granularity.TENSOR, Granularity.CHANNEL]), st.integers(1, 4096)),
)


@given(FORMATS)
def test_parse_reads_what_str_writes(fmt: Format) -> None:
    assert Format.parse(str(fmt)) == fmt


@given(FORMATS, st.none() | FORMATS)
def test_layer_format_reads_the_json_it_writes(weight: Format, activation: Format | None) -> None:
    assert LayerFormat.from_json(LayerFormat(weight, activation).to_json()) == LayerFormat(weight, activation)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("int2:tensor", (-2, 1)),
        ("int3:tensor", (-4, 3)),
        ("int4:channel", (-8, 7)),
        ("int8:tensor", (-128, 127)),
        ("uint2:tensor", (0, 3)),
        ("uint5:group32", (0, 31)),
        ("uint8:channel", (0, 255)),
    ],
)
def test_codes_are_those_of_onnx(text: str, codes: tuple[int, int]) -> None:
    fmt = Format.parse(text)
    assert (fmt.qmin, fmt.qmax) == codes


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("int4:tensor", (1, 1)),
        ("int4:channel", (6, 1)),
        ("int4:group5", (6, 2)),
        ("int4:group4", (6, 3)),
        ("int4:group10", (6, 1)),
        ("int4:group11", (6, 1)),
        ("int4:group1", (6, 10)),
    ],
)
def test_a_short_last_group_has_a_scale(text: str, shape: tuple[int, int]) -> None:
    assert Format.parse(text).scale_shape(6, 10) == shape


@pytest.mark.parametrize(
    "text",
    ["int1:tensor", "int9:tensor", "int4", "int4:", "int4:row", "int4:group", "int4:group0", "float8:tensor", "", "4"],
)
def test_what_is_no_format_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Format.parse(text)


@pytest.mark.parametrize("size", [-1, 32], ids=["negative", "size without groups"])
def test_a_group_size_goes_with_groups_alone(size: int) -> None:
    with pytest.raises(InputError, match=f"group size {size}"):
        Format(4, True, Granularity.TENSOR, size)


@pytest.mark.parametrize(
    "data", [None, [], {"weight": "int4:tensor"}, {"weight": None, "activation": None}, {"w": 1, "activation": None}]
)
def test_json_of_another_shape_is_refused(data: object) -> None:
    with pytest.raises(InputError):
        LayerFormat.from_json(data)
