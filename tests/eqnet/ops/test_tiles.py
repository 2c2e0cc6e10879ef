"""The order in which kernels for GPUs read weights: its bytes, and that nothing is lost in it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.ops import Tiles
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.ops.weights import FORMATS, SCALES, SHAPES, made


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_they_hold_what_is_stored_and_give_it_back(fmt: Format) -> None:
    # One shape for each format, which meet all of them: gathering bits by plain torch takes its time.
    index = FORMATS.index(fmt)
    for rows, cols in (SHAPES[index % len(SHAPES)], (70, 100)):
        weight = made(fmt, rows, cols, SCALES[index % len(SCALES)])
        tiles = Tiles.of(weight)
        tiles.check("test")
        assert torch.equal(tiles.dequantize(), weight.dequantize())
        back = tiles.stored(fmt)
        assert (back.rows, back.cols) == (rows, cols)
        for name in ("codes", "scale", "zero_point"):
            found, expected = getattr(back, name), getattr(weight, name)
            assert (found is None) == (expected is None)
            assert found is None or (found.dtype == expected.dtype and torch.equal(found, expected))


def one_tile(bits: int, places: dict[tuple[int, int], int]) -> Tensor:
    """The words of a tile, [line, lane, word], whose codes are 0 but at these rows and columns."""
    codes = torch.zeros(64, 64, dtype=torch.int64)
    for (row, col), code in places.items():
        codes[row, col] = code
    scale = torch.ones(1, 1)
    tiles = Tiles.of(PackedTensor(Format(bits, symmetric=True), 64, 64, pack(codes, bits), scale, None))
    assert tiles.codes.numel() == bits * 512
    return tiles.codes.view(torch.int32).view(bits, 32, 4)


def only(words: Tensor) -> dict[tuple[int, ...], int]:
    """What is not 0, by line, lane and word."""
    return {tuple(place): int(words[tuple(place)]) & 0xFFFFFFFF for place in words.nonzero().tolist()}


def test_the_words_of_four_bits() -> None:
    # Line 0 is columns 0-15, word 0 channels 0-15. Lane 0 has channel 0, columns 0 and 1; then channel 8; then 8 and 9.
    assert only(one_tile(4, {(0, 0): 1, (8, 0): 2, (0, 8): 3, (8, 8): 4})) == {(0, 0, 0): 0x4321}
    assert only(one_tile(4, {(0, 1): 1, (8, 1): 2, (0, 9): 3, (8, 9): 4})) == {(0, 0, 0): 0x4321 << 16}
    # Channel g = 5, columns 6 and 7 (t = 3): lane 23. Channel 16 · 2 + 8 + 5, column 16 · 3 + 8 + 6: line 3, word 2.
    assert only(one_tile(4, {(5, 6): 9})) == {(0, 23, 0): 9}
    assert only(one_tile(4, {(45, 62): 9})) == {(3, 23, 2): 0x9000}


def test_the_words_of_other_widths() -> None:
    # 8 bits: two pairs a word; column 16 begins at pair 16, word 8: line 2.
    assert only(one_tile(8, {(0, 0): 0xA1, (0, 1): 0xB2, (8, 0): 0xC3})) == {(0, 0, 0): 0x00B2C3A1}
    assert only(one_tile(8, {(0, 16): 7})) == {(2, 0, 0): 7}
    # 3 bits: a plane of 2 bits in two lines, eight pairs a word, then one of 1 bit in one line, sixteen pairs a word.
    assert only(one_tile(3, {(16, 0): 0b111})) == {(0, 0, 0): 0b11 << 8, (2, 0, 0): 1 << 4}
    assert only(one_tile(3, {(32, 1): 0b101})) == {(0, 0, 1): 1 << 16, (2, 0, 0): 1 << (16 + 8)}
    # 2 bits: the third step is the second line.
    assert only(one_tile(2, {(0, 32): 2})) == {(1, 0, 0): 2}


def test_scales_and_zero_points_lie_as_lanes_want_them() -> None:
    scale, zero = torch.arange(1.0, 141.0).view(70, 2), torch.arange(140).view(70, 2)
    fmt = Format.parse("uint8:group24")
    tiles = Tiles.of(PackedTensor(fmt, 70, 40, pack(torch.zeros(70, 40, dtype=torch.int64), 8), scale, pack(zero, 8)))
    # 24 columns are two steps, so 40 are four: one column of tiles. Rows of tiles 0 and 1, groups 0 and 1, g, m, h.
    assert tiles.zeros is not None
    scales, zeros = tiles.scales.view(2, 2, 8, 4, 2), tiles.zeros.view(2, 2, 8, 4, 2)
    assert scales[0, 0, 0].flatten().tolist() == [1 + 2 * row for row in (0, 8, 16, 24, 32, 40, 48, 56)]
    assert scales[0, 1, 3, 1].tolist() == [2 + 2 * 19, 2 + 2 * 27]
    assert scales[1, 0, :, 0, 0].tolist() == [129, 131, 133, 135, 137, 139, 0, 0]
    assert not scales[1, :, :, 1:].any()
    assert zeros[0, 0, 7, 3].tolist() == [2 * 55, 2 * 63]


def test_a_weight_of_no_rows_has_empty_ones() -> None:
    tiles = Tiles.of(made(Format.parse("int4:channel"), 0, 40))
    assert (tiles.nbytes, tiles.dequantize().shape) == (0, (0, 40))


def test_a_weight_without_columns_is_refused() -> None:
    with pytest.raises(InputError, match=r"this one is \[3, 0\]"):
        Tiles.of(made(Format.parse("int4:channel"), 3, 0))


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t._replace(codes=t.codes[:-1]),
        lambda t: t._replace(codes=t.codes.char()),
        lambda t: t._replace(codes=torch.cat([t.codes, t.codes])[::2]),
        lambda t: t._replace(scales=t.scales.double()),
        lambda t: t._replace(scales=t.scales[:32]),
        lambda t: t._replace(zeros=t.zeros[:32]),
        lambda t: t._replace(zeros=t.zeros.to("meta")),
        lambda t: t._replace(shape=(5, 40, 8, 4)),
        lambda t: t._replace(shape=(5, 40, 41, 4)),
        lambda t: t._replace(shape=(5, 40, 16, 9)),
    ],
    ids=["short codes", "other codes", "codes with gaps", "scales", "few scales", "few zeros", "zeros elsewhere",
         "group", "wide group", "bits"],
)  # fmt: skip
def test_parts_that_are_no_tiles_are_refused(damage) -> None:
    tiles = Tiles.of(made(Format.parse("uint4:group16"), 5, 40))
    with pytest.raises(InputError, match=r"packed_linear: torch.* are no tiles of a weight of shape"):
        damage(tiles).check("packed_linear")


def test_large_ones_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = made(Format.parse("uint5:group24"), 300, 70)
    whole = Tiles.of(weight)
    monkeypatch.setattr("eqnet.ops.tiles._AT_ONCE", 2 * 64 * 70)
    assert torch.equal(Tiles.of(weight).codes, whole.codes)
