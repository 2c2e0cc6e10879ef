"""Parts of packed weights, against the same parts of their codes."""

from __future__ import annotations

import pytest
import torch

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.lm.parallel.slicing import can_split_columns, can_split_rows, columns_of, rows_of
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

BITS = range(2, 9)
GRANULARITIES = ["tensor", "channel", "group16", "group24", "group128"]


def random_weight(fmt: Format, rows: int, cols: int, generator: torch.Generator) -> PackedTensor:
    """Codes, scales and zero points that are all random."""
    shape = fmt.scale_shape(rows, cols)
    codes = torch.randint(0, 1 << fmt.bits, (rows, cols), generator=generator)
    zero_point = torch.randint(0, 1 << fmt.bits, shape, generator=generator)
    scale = (torch.rand(shape, generator=generator) + 0.5).half()
    packed_zero = None if fmt.symmetric else pack(zero_point, fmt.bits)
    return PackedTensor(fmt, rows, cols, pack(codes, fmt.bits), scale, packed_zero)


@pytest.mark.parametrize("sign", ["", "u"], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", BITS)
def test_parts_are_those_of_the_dequantized_weight(
    bits: int, granularity: str, sign: str, generator: torch.Generator
) -> None:
    weight = random_weight(Format.parse(f"{sign}int{bits}:{granularity}"), 12, 48, generator)
    whole = weight.dequantize()
    assert torch.equal(rows_of(weight, [(4, 9)]).dequantize(), whole[4:9])
    assert torch.equal(rows_of(weight, [(0, 3), (6, 9)]).dequantize(), torch.cat([whole[:3], whole[6:9]]))
    for count in (2, 3):
        parts = [columns_of(weight, part, count) for part in range(count)]
        assert torch.equal(torch.cat([part.dequantize() for part in parts], 1), whole)
        assert len({part.format for part in parts}) == 1, "all processes run the same"


def test_parts_have_memory_of_their_own(generator: torch.Generator) -> None:
    weight = random_weight(Format.parse("uint4:group16"), 8, 32, generator)
    before = [part.clone() for part in (weight.codes, weight.scale, weight.zero_point)]  # type: ignore[union-attr]
    for part in (
        rows_of(weight, [(0, 8)]),
        rows_of(weight, [(0, 4)]),
        columns_of(weight, 0, 1),
        columns_of(weight, 1, 2),
    ):
        assert part.zero_point is not None
        for tensor in (part.codes, part.scale, part.zero_point):
            tensor.zero_()
    after = (weight.codes, weight.scale, weight.zero_point)
    assert all(torch.equal(a, b) for a, b in zip(before, after))  # type: ignore[arg-type]


def test_a_group_that_is_cut_is_shared(generator: torch.Generator) -> None:
    part = columns_of(random_weight(Format.parse("int4:group32"), 2, 96, generator), 1, 2)
    assert (part.format, part.scale.shape) == (Format.parse("int4:group16"), (2, 3))


def test_the_last_row_may_end_within_a_byte(generator: torch.Generator) -> None:
    weight = random_weight(Format.parse("int3:channel"), 9, 1, generator)
    assert torch.equal(rows_of(weight, [(8, 9)]).dequantize(), weight.dequantize()[8:])


@pytest.mark.parametrize(
    ("text", "cols", "count", "fits"),
    [
        ("int8:channel", 6, 2, True),
        ("int4:channel", 6, 3, True),
        ("int4:channel", 6, 2, False),
        ("int3:channel", 24, 3, True),
        ("int3:channel", 24, 2, False),
        ("int2:channel", 8, 2, True),
        ("int8:channel", 7, 2, False),
    ],
)
def test_columns_are_cut_at_bytes_alone(
    text: str, cols: int, count: int, fits: bool, generator: torch.Generator
) -> None:
    weight = random_weight(Format.parse(text), 4, cols, generator)
    assert can_split_columns(weight.format, cols, count) is fits
    if fits:
        assert torch.equal(
            columns_of(weight, 1, count).dequantize(), weight.dequantize()[:, cols // count :][:, : cols // count]
        )
    else:
        with pytest.raises(InputError, match=f"{cols} columns in {text} cannot be split into {count} equal parts"):
            columns_of(weight, 1, count)


def test_rows_are_cut_at_bytes_alone(generator: torch.Generator) -> None:
    weight = random_weight(Format.parse("int3:channel"), 8, 5, generator)
    assert not can_split_rows(weight.format, 5, [4])
    assert can_split_rows(weight.format, 5, [8])
    with pytest.raises(InputError, match="rows 0 to 4 of 8, each of 5 codes in int3:channel, do not begin and end"):
        rows_of(weight, [(0, 4)])
