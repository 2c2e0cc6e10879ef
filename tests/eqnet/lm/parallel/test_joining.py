"""Joined parts, against what they were cut from."""

from __future__ import annotations

import pytest
import torch

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.lm.parallel.joining import coarsest, columns_joined, rows_joined
from eqnet.lm.parallel.slicing import columns_of, rows_of
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor


def random_weight(text: str, rows: int, cols: int, generator: torch.Generator) -> PackedTensor:
    fmt = Format.parse(text)
    shape = fmt.scale_shape(rows, cols)
    codes = torch.randint(0, 1 << fmt.bits, (rows, cols), generator=generator)
    zero_point = torch.randint(0, 1 << fmt.bits, shape, generator=generator)
    scale = (torch.rand(shape, generator=generator) + 0.5).half()
    return PackedTensor(
        fmt, rows, cols, pack(codes, fmt.bits), scale, None if fmt.symmetric else pack(zero_point, fmt.bits)
    )


@pytest.mark.parametrize("text", ["int4:channel", "int8:channel", "int3:group16", "uint4:channel", "uint5:group8"])
def test_what_was_cut_is_what_it_was(text: str, generator: torch.Generator) -> None:
    weight = random_weight(text, 16, 48, generator)
    by_rows = rows_joined([rows_of(weight, [(0, 8)]), rows_of(weight, [(8, 16)])])
    assert by_rows.format == weight.format
    assert torch.equal(by_rows.codes, weight.codes)
    assert torch.equal(by_rows.dequantize(), weight.dequantize())
    by_columns = columns_joined([columns_of(weight, part, 3) for part in range(3)])
    assert torch.equal(by_columns.codes, weight.codes)
    assert torch.equal(by_columns.dequantize(), weight.dequantize())


def test_parts_side_by_side_become_groups_byte_by_byte() -> None:
    fmt = Format.parse("int4:channel")
    left = PackedTensor(fmt, 2, 2, torch.tensor([0x21, 0x43], dtype=torch.uint8), torch.tensor([[1.0], [2]]), None)
    right = PackedTensor(fmt, 2, 2, torch.tensor([0x65, 0x87], dtype=torch.uint8), torch.tensor([[3.0], [2]]), None)
    joined = columns_joined([left, right])
    assert (str(joined.format), joined.rows, joined.cols) == ("int4:group2", 2, 4)
    assert bytes(joined.codes.tolist()).hex(" ") == "21 65 43 87"
    assert joined.scale.tolist() == [[1, 3], [2, 2]]
    assert joined.dequantize().tolist() == [[-7, -6, -9, -6], [-10, -8, -2, 0]]


def test_groups_of_one_scale_are_one_group() -> None:
    fmt = Format.parse("int8:group2")
    scale = torch.tensor([[1.0, 1, 2, 2], [3, 3, 3, 3]])
    weight = PackedTensor(fmt, 2, 8, torch.zeros(16, dtype=torch.uint8), scale, None)
    assert (str(coarsest(weight).format), coarsest(weight).scale.tolist()) == ("int8:group4", [[1, 2], [3, 3]])
    assert torch.equal(coarsest(weight).dequantize(), weight.dequantize())
    same = PackedTensor(fmt, 2, 8, weight.codes, torch.ones(2, 4), None)
    assert (str(coarsest(same).format), coarsest(same).scale.shape) == ("int8:channel", (2, 1))


def test_what_cannot_be_joined_is_refused(generator: torch.Generator) -> None:
    weight = random_weight("int4:channel", 3, 5, generator)
    for join in (rows_joined, columns_joined):
        with pytest.raises(InputError, match=r"do not end at whole bytes"):
            join([weight, weight])
        with pytest.raises(InputError, match=r"3 × 5 in int4:channel, 3 × 6 in int4:channel"):
            join([weight, random_weight("int4:channel", 3, 6, generator)])
    with pytest.raises(InputError, match="one scale for all"):
        rows_joined([random_weight("int8:tensor", 2, 2, generator)] * 2)
    with pytest.raises(InputError, match="shorter group"):
        columns_joined([random_weight("int8:group4", 2, 6, generator)] * 2)
