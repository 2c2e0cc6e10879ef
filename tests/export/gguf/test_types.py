"""ggml's types: every format has its exact values, by gguf's own reading of the bytes."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from eqnet.export.gguf.grid import Grid, grid_of, why_not
from eqnet.export.gguf.types import TYPES, type_for
from eqnet.formats import Format
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

ROWS = 5
COLUMNS = {
    96: ("channel", "group32", "group64"),
    512: ("tensor", "channel", "group32", "group64", "group128", "group256"),
}
"""Granularities by columns: the K types need a multiple of 256."""

EXPECTED = {
    "int2:group32": "Q4_0", "int3:group64": "Q4_0", "int4:group32": "Q4_0", "int4:channel": "Q4_0",
    "int5:group32": "Q5_0", "int6:group32": "Q8_0", "int7:channel": "Q8_0", "int8:group128": "Q8_0",
    "int2:channel": "Q2_K", "uint2:channel": "Q2_K", "int3:channel": "Q3_K", "uint4:channel": "Q4_K",
    "uint5:group256": "Q5_K", "int6:tensor": "Q6_K",
    "uint2:group32": "Q4_0", "uint3:group32": "Q4_0", "uint4:group32": "Q5_0", "uint5:group32": "Q8_0",
    "uint7:group64": "Q8_0",
}  # fmt: skip
"""The narrowest type of weights with 512 columns that use all their codes and zero points."""


def any_weight(fmt: Format, rows: int, cols: int, seed: int = 0) -> PackedTensor:
    """All codes and zero points, at random."""
    generator = torch.Generator().manual_seed(seed)
    shape = fmt.scale_shape(rows, cols)
    codes = torch.randint(0, 1 << fmt.bits, (rows, cols), generator=generator)
    zero = torch.randint(0, 1 << fmt.bits, shape, generator=generator)
    scale = (torch.rand(shape, generator=generator) / 64 + 1e-3).half()
    packed_zero = None if fmt.symmetric else pack(zero, fmt.bits)
    return PackedTensor(fmt, rows, cols, pack(codes, fmt.bits), scale, packed_zero)


def values(name: str, data: np.ndarray) -> np.ndarray:
    """As gguf reads a type."""
    return gguf.dequantize(data, gguf.GGMLQuantizationType[name])


@pytest.mark.parametrize("cols", COLUMNS)
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_type_that_holds_a_weight_has_its_values_bit_for_bit(bits: int, cols: int) -> None:
    for shared in COLUMNS[cols]:
        for sign in ("", "u"):
            weight = any_weight(Format.parse(f"{sign}int{bits}:{shared}"), ROWS, cols)
            grid, expected = grid_of(weight), weight.dequantize().numpy()
            holding = [row for row in TYPES if row.holds(grid)]
            assert bool(holding) == (bits < 8 or not sign)
            for row in holding:
                data = row.encode(grid)
                assert data.shape == (ROWS, cols // row.block * row.nbytes)
                np.testing.assert_array_equal(values(row.name, data), expected, f"{weight.format} as {row.name}")


@pytest.mark.parametrize(("text", "name"), EXPECTED.items())
def test_the_narrowest_type_is_taken(text: str, name: str) -> None:
    found = type_for(grid_of(any_weight(Format.parse(text), 64, 512)))
    assert found is not None
    assert found.name == name


def test_types_are_those_of_ggml_from_narrow_to_wide() -> None:
    for row in TYPES:
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[row.name]] == (row.block, row.nbytes)
    assert [row.bpw for row in TYPES] == sorted(row.bpw for row in TYPES)


def test_blocks_of_4_bits_are_laid_out_as_ggml_has_them() -> None:
    steps = np.arange(-8, 24, dtype=np.int16)[None] % 16 - 8  # 0 … 7, −8 … 7, −8 … −1
    grid = Grid(steps, np.full((1, 1), 8, np.int16), np.array([[0.5]], np.float16))
    (found,) = (row.encode(grid) for row in TYPES if row.name == "Q4_0")
    halves = [(int(steps[0, j]) + 8) | (int(steps[0, j + 16]) + 8) << 4 for j in range(16)]
    assert found.tolist() == [[0x00, 0x38, *halves]]


def test_zero_points_whose_product_is_a_float16_take_a_minimum() -> None:
    weight = any_weight(Format.parse("uint4:group32"), ROWS, 64)
    powers = torch.tensor([0.5, 0.25]).half().expand(ROWS, 2).contiguous()
    exact = PackedTensor(weight.format, ROWS, 64, weight.codes, powers, weight.zero_point)
    found = type_for(grid_of(exact))
    assert found is not None
    assert found.name == "Q4_1"
    np.testing.assert_array_equal(values("Q4_1", found.encode(grid_of(exact))), exact.dequantize().numpy())


def test_rows_are_put_in_another_order_with_their_scales() -> None:
    weight, order = any_weight(Format.parse("uint4:group32"), ROWS, 64), torch.tensor([3, 0, 4, 1, 2])
    grid = grid_of(weight, order)
    found = type_for(grid)
    assert found is not None
    np.testing.assert_array_equal(values(found.name, found.encode(grid)), weight.dequantize().numpy()[order])


@pytest.mark.parametrize(
    ("text", "cols", "reason"),
    [("int4:group16", 64, "no scale for 16"), ("int4:group32", 40, "40 columns"), ("int4:group48", 96, "for 48")],
)
def test_what_is_no_grid_of_blocks_of_32_is_told(text: str, cols: int, reason: str) -> None:
    assert reason in str(why_not(any_weight(Format.parse(text), ROWS, cols)))


def test_scales_that_float16_rounds_are_told() -> None:
    weight = any_weight(Format.parse("int4:group32"), ROWS, 64)
    wide = PackedTensor(weight.format, ROWS, 64, weight.codes, weight.scale.float() + 1e-6, None)
    assert "scale=fp16" in str(why_not(wide))
    wide = PackedTensor(weight.format, ROWS, 64, weight.codes, torch.full_like(weight.scale, 0.5).bfloat16(), None)
    assert why_not(wide) is None
