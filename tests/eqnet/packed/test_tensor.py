"""A packed weight is the fake-quantized one, bit for bit, and as small as the budget counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from eqnet import Format, InputError, LayerFormat
from eqnet.packed.tensor import PackedTensor
from eqnet.quantizer import Quantizer
from eqnet.search.cost import weight_bytes
from eqnet.space import Layer

ROWS, COLS = 5, 43  # an odd number of codes; the last group of a row is short

FORMATS = [
    Format.parse(f"{sign}int{bits}:{granularity}")
    for bits, granularity, sign in product(range(2, 9), ("tensor", "channel", "group16", "group32"), ("", "u"))
]


def made(fmt: Format, dtype: torch.dtype, generator: torch.Generator) -> tuple[torch.Tensor, Quantizer]:
    x = torch.randn(ROWS, COLS, generator=generator) + 0.3
    quantizer = Quantizer([fmt], ROWS, COLS, dtype)
    quantizer.initialize(x)
    return x, quantizer


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_it_is_the_fake_quantized_weight_in_the_bytes_of_the_budget(
    fmt: Format, dtype: torch.dtype, generator: torch.Generator
) -> None:
    x, quantizer = made(fmt, dtype, generator)
    packed = PackedTensor.of(x, quantizer, fmt)
    assert torch.equal(packed.dequantize(), quantizer(x, fmt).detach())
    given = torch.full((ROWS, COLS), torch.nan)
    assert packed.dequantize(into=given) is given
    assert torch.equal(given, packed.dequantize())
    assert (packed.scale.dtype, packed.format) == (dtype, fmt)
    assert torch.equal(packed.integers(), quantizer.codes(x, fmt))
    layer = Layer("weight", "Linear", rows=ROWS, cols=COLS, macs=0, inputs=0)
    assert packed.nbytes == weight_bytes(layer, LayerFormat(fmt), 8 * dtype.itemsize)


def test_parts_that_do_not_fit_are_refused(generator: torch.Generator) -> None:
    fmt = Format.parse("uint3:group16")
    packed = PackedTensor.of(*made(fmt, torch.float16, generator), fmt)
    changes = {
        r"scale: expected float16 or bfloat16 or float32 of shape \(5, 3\); found float16 of shape \(5, 2\)": {
            "scale": packed.scale[:, :2]
        },
        r"scale: .* found float64": {"scale": packed.scale.double()},
        r"codes: expected uint8 of shape \(81,\); found uint8 of shape \(80,\)": {"codes": packed.codes[:-1]},
        r"zero_point: expected uint8 of shape \(6,\)": {"zero_point": packed.codes},
        "a matrix of -5 rows and -43 columns; expected 0 to 2147483647": {"rows": -ROWS, "cols": -COLS},
        "format uint3:group16 has a zero point": {"zero_point": None},
        "format int3:group16 has no zero point": {"format": replace(fmt, symmetric=True)},
    }
    for message, change in changes.items():
        with pytest.raises(InputError, match=message):
            replace(packed, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "cols"), [(0, 3), (3, 0), (0, 2**31 - 1), (2**31 - 1, 0)], ids=str)
def test_an_empty_matrix_costs_nothing_however_wide(rows: int, cols: int) -> None:
    fmt = Format.parse("int4:tensor")
    nothing = torch.zeros(0, dtype=torch.uint8)
    packed = PackedTensor(fmt, rows, cols, nothing, torch.ones(1, 1), None)
    assert packed.dequantize().shape == packed.integers().shape == (rows, cols)
    with pytest.raises(InputError, match="expected 0 to 2147483647 of each"):
        replace(packed, cols=2**31)
