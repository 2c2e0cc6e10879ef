"""The order in which kernels read weights: its bytes, and that nothing is lost in it."""

from __future__ import annotations

import pytest
import torch

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.ops import Panels
from eqnet.ops.panels import dequantize_reference, room
from eqnet.packed.panels import lines
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.ops.weights import FORMATS, SCALES, SHAPES, made


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_they_hold_the_weight_bit_for_bit(fmt: Format) -> None:
    for index, (rows, cols) in enumerate(SHAPES):
        weight = made(fmt, rows, cols, SCALES[(index + fmt.bits) % len(SCALES)])
        panels, expected = Panels.of(weight), weight.dequantize()
        assert torch.equal(panels.dequantize(), expected), (rows, cols)
        assert torch.equal(dequantize_reference(*panels), expected), (rows, cols)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_they_fill_the_memory_that_is_given_and_no_more(fmt: Format) -> None:
    weight = made(fmt, 37, 45, torch.float16)
    size = room(weight)
    memory = torch.from_numpy(lines(size + 64)).fill_(0xA5)
    panels = Panels.of(weight, memory[:size])
    assert panels.codes.data_ptr() == memory.data_ptr()
    assert panels.nbytes <= size < panels.nbytes + 3 * 64
    assert torch.equal(panels.dequantize(), weight.dequantize())
    assert (memory[size:] == 0xA5).all()


def one_row(bits: int, codes: list[int]) -> tuple[list[list[int]], Panels]:
    """The lines of a weight of 1 row, by channel and column of a step, and its panels."""
    matrix = torch.tensor([codes])
    weight = PackedTensor(Format(bits, symmetric=True), 1, len(codes), pack(matrix, bits), torch.tensor([[0.5]]), None)
    panels = Panels.of(weight)
    assert panels.codes.numel() == 2 * bits * 64  # one block, of two halves
    assert panels.codes.data_ptr() % 64 == 0
    found = panels.codes.view(bits, 2, 16, 4)
    assert not found[:, 0, 1:].any()  # rows that are not there
    assert not found[:, 1].any()
    return found[:, 0, 0].tolist(), panels


def test_the_bytes_of_four_bits() -> None:
    lines, panels = one_row(4, [column % 16 for column in range(32)])
    # Line i holds steps i and i + 4, the first in the low nibbles: columns 4 i + j and 16 + 4 i + j.
    assert lines == [
        [0x00, 0x11, 0x22, 0x33],
        [0x44, 0x55, 0x66, 0x77],
        [0x88, 0x99, 0xAA, 0xBB],
        [0xCC, 0xDD, 0xEE, 0xFF],
    ]
    assert panels.scales.tolist() == [0.5] + 31 * [0.0]
    assert panels.zeros is None


def test_high_nibbles_are_later_steps() -> None:
    lines, _ = one_row(4, 16 * [1] + 12 * [2])  # the last step is padding
    assert lines == [4 * [0x21], 4 * [0x21], 4 * [0x21], 4 * [0x01]]


def test_the_bytes_of_three_bits() -> None:
    codes = 32 * [0]
    codes[0], codes[8], codes[17], codes[31] = 7, 5, 6, 5
    lines, _ = one_row(3, codes)
    # The plane of 2 bits: line i holds steps i, i + 2, i + 4, i + 6. Columns 0, 8, 17 and 31 are in steps 0, 2, 4, 7.
    assert lines[0] == [0b00_00_01_11, 0b00_10_00_00, 0, 0]
    assert lines[1] == [0, 0, 0, 0b01_00_00_00]
    # The plane of 1 bit: one line, a bit for each step.
    assert lines[2] == [0b0000_0101, 0b0001_0000, 0, 0b1000_0000]


def test_the_bytes_of_rows_groups_and_zero_points() -> None:
    codes = torch.full((18, 40), 255)
    codes[17] = torch.arange(40)
    scale = torch.arange(36.0).view(18, 2)
    zero = torch.arange(36).view(18, 2)
    weight = PackedTensor(Format.parse("uint8:group24"), 18, 40, pack(codes, 8), scale, pack(zero, 8))
    panels = Panels.of(weight)
    assert panels.shape == (18, 40, 24, 8)
    # Two groups, each padded to a block of 32 columns: [block, line = step, half, channel, column].
    blocks = panels.codes.view(2, 8, 2, 16, 4)
    assert blocks[0, :, 1, 1].flatten().tolist() == [*range(24), *(8 * [0])]
    assert blocks[1, :, 1, 1].flatten().tolist() == [*range(24, 40), *(16 * [0])]
    assert blocks[:, :, 1, 2:].sum() == 0
    assert panels.scales.view(2, 32)[:, :19].tolist() == [[*range(0, 36, 2), 0], [*range(1, 36, 2), 0]]
    assert panels.zeros is not None
    assert panels.zeros.view(2, 32)[:, :19].tolist() == [[*range(0, 36, 2), 0], [*range(1, 36, 2), 0]]


def test_large_ones_begin_at_a_page_and_stay_dense() -> None:
    weight = made(Format.parse("uint4:group32"), 2048, 4096)
    panels = Panels.of(weight)
    assert panels.codes.data_ptr() % (1 << 21) == 0
    assert panels.nbytes == 2048 * 4096 // 2 + 2048 * 128 * 3
    assert torch.equal(panels.dequantize(), weight.dequantize())


def test_a_weight_of_no_rows_has_empty_ones() -> None:
    panels = Panels.of(made(Format.parse("int4:channel"), 0, 40))
    assert (panels.nbytes, panels.dequantize().shape) == (0, (0, 40))
    assert dequantize_reference(*panels).shape == (0, 40)


def test_a_weight_without_columns_or_elsewhere_is_refused() -> None:
    weight = made(Format.parse("int4:channel"), 3, 0)
    with pytest.raises(InputError, match=r"this one is \[3, 0\] on cpu"):
        Panels.of(weight)
    meta = PackedTensor(weight.format, 3, 8, torch.empty(12, dtype=torch.uint8, device="meta"), weight.scale, None)
    with pytest.raises(InputError, match=r"this one is \[3, 8\] on meta"):
        Panels.of(meta)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p._replace(codes=p.codes[:-1]),
        lambda p: p._replace(codes=p.codes.char()),
        lambda p: p._replace(codes=torch.cat([p.codes, p.codes])[::2]),
        lambda p: p._replace(scales=p.scales.double()),
        lambda p: p._replace(scales=p.scales[:32]),
        lambda p: p._replace(zeros=p.zeros[:32]),
        lambda p: p._replace(shape=(5, 40, 8, 4)),
        lambda p: p._replace(shape=(5, 40, 41, 4)),
        lambda p: p._replace(shape=(5, 40, 16, 9)),
    ],
    ids=["short codes", "other codes", "codes with gaps", "scales", "few scales", "few zeros", "group", "wide group",
         "bits"],
)  # fmt: skip
def test_parts_that_are_no_panels_are_refused(damage) -> None:
    panels = Panels.of(made(Format.parse("uint4:group16"), 5, 40))
    with pytest.raises(InputError, match=r"dequantize_panels: torch.* are no panels of a weight of shape"):
        damage(panels).dequantize()


def test_the_op_keeps_the_rules_of_torch_library() -> None:
    for fmt in ("int3:channel", "uint5:group16"):
        codes, scales, zeros, shape = Panels.of(made(Format.parse(fmt), 7, 70))
        torch.library.opcheck(torch.ops.eqnet.dequantize_prepared.default, (codes, scales, zeros, list(shape)))
