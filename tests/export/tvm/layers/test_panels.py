"""The order in which TVM's functions read packed weights."""

from __future__ import annotations

import torch

from eqnet.export.tvm.layers.panels import Panels
from eqnet.formats import Format
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor


def _weight(fmt: str, rows: int, cols: int) -> PackedTensor:
    """Stored codes that count up, scales 0, 1, …, zero points that count up."""
    parsed = Format.parse(fmt)
    shape, codes = parsed.scale_shape(rows, cols), torch.arange(rows * cols) % (1 << parsed.bits)
    scale = torch.arange(shape[0] * shape[1]).float().view(shape)
    zero = None if parsed.symmetric else pack(scale.to(torch.int64) % (1 << parsed.bits), parsed.bits)
    return PackedTensor(parsed, rows, cols, pack(codes, parsed.bits), scale, zero)


def test_codes_of_a_column_lie_side_by_side() -> None:
    """3 rows of 5 codes of 3 bits in panels of two lanes: 01234, 56701, 23456."""
    panels = Panels.of(_weight("uint3:channel", 3, 5), lanes=2)
    two, one = panels.planes
    assert two.tolist() == [
        [[0b11100100, 0b00111001], [0b00, 0b01]],  # low bits of 3 2 1 0 and 0 7 6 5, then of 4 and 1
        [[0b01001110, 0], [0b10, 0]],  # of 5 4 3 2 and 6; there is no fourth row
    ]
    assert one.tolist() == [[[0b10000, 0b00111]], [[0b11100, 0]]]
    assert panels.scale.tolist() == [[[0, 1]], [[2, 0]]]
    assert panels.zero.tolist() == [[[0, 1]], [[2, 0]]]  # type: ignore[union-attr]


def test_with_one_lane_rows_follow_each_other() -> None:
    panels = Panels.of(_weight("int4:group2", 2, 3), lanes=1)
    assert [plane.tolist() for plane in panels.planes] == [[[[0x10], [0x02]], [[0x43], [0x05]]]]
    assert panels.scale.tolist() == [[[0], [1]], [[2], [3]]]
    assert panels.zero == 8  # stored from 0, so that it is in the middle


def test_there_are_as_many_bits_as_in_the_format() -> None:
    for bits in range(2, 9):
        panels = Panels.of(_weight(f"int{bits}:channel", 64, 40), lanes=32)
        assert sum(plane.nbytes for plane in panels.planes) == 64 * 40 * bits // 8


def test_groups_that_would_overflow_a_sum_of_integers_are_divided() -> None:
    panels = Panels.of(_weight("int2:tensor", 1, 70_000), lanes=1)
    assert panels.group == 32768
    assert panels.scale.shape == (1, 3, 1)
