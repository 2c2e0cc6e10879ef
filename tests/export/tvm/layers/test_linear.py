"""Products of packed weights, compiled by TVM for this processor, against NumPy in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from eqnet.formats import Format
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

tvm = pytest.importorskip("tvm", reason="needs pip install 'eqnet[tvm]'")

TOLERANCE = 1e-6
"""Of the largest result: some hundred float32 sums."""

FORMATS = (
    ("uint4:group16", 33, 80, False, True),
    ("int3:channel", 32, 50, False, False),
    ("uint7:group24", 70, 61, False, True),
    ("int2:tensor", 5, 9, True, False),
    ("uint8:channel", 40, 31, True, True),
    ("int6:group7", 64, 30, True, True),
    ("uint5:group64", 3, 64, False, False),
)
"""Format of the weight, its rows and columns, whether inputs are integers, whether there is a bias."""


def _weight(fmt: str, rows: int, cols: int) -> PackedTensor:
    parsed, generator = Format.parse(fmt), torch.Generator().manual_seed(rows)
    shape, codes = parsed.scale_shape(rows, cols), 1 << parsed.bits
    stored, zero = (torch.randint(0, codes, size, generator=generator) for size in ((rows, cols), shape))
    scale = torch.rand(shape, generator=generator) - 0.4  # scales of folded norms are of any sign
    return PackedTensor(
        parsed, rows, cols, pack(stored, parsed.bits), scale, None if parsed.symmetric else pack(zero, parsed.bits)
    )


def _bias(rows: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(rows).standard_normal(rows).astype(np.float32)


@cache
def _machine() -> Any:
    """One module of all products: one compilation."""
    from tvm import relax

    from eqnet.export.tvm.layers.linear import LANES, Linear
    from eqnet.export.tvm.layers.panels import Panels

    builder = relax.BlockBuilder()
    for i, (fmt, rows, cols, integer, biased) in enumerate(FORMATS):
        panels = Panels.of(_weight(fmt, rows, cols), LANES)
        spec = Linear(panels, biased, integer)
        product = builder.add_func(spec.function(), f"product{i}")
        constants = [*panels.arrays]
        if biased:
            padded = np.zeros((len(panels.scale), LANES), np.float32)
            padded.reshape(-1)[:rows] = _bias(rows)
            constants.append(padded)
        samples = tvm.tirx.Var("n", "int64")
        x = relax.Var("x", relax.TensorType((samples, cols), spec.input_type))
        with builder.function(f"main{i}", [x]):
            out = relax.TensorType((samples, rows), "float32")
            builder.emit_func_output(
                builder.emit(relax.call_tir(product, [x, *map(relax.const, constants)], out_ty=out))
            )
    executable = tvm.relax.build(builder.get(), target=tvm.target.Target("llvm"), relax_pipeline="default_build")
    return relax.VirtualMachine(executable, tvm.cpu())


@pytest.mark.parametrize("rows_of_inputs", [1, 3, 4, 7, 8, 21])
@pytest.mark.parametrize("index", range(len(FORMATS)), ids=[f"{row[0]} {'integers' * row[3]}" for row in FORMATS])
def test_products_are_those_of_the_dequantized_weight(index: int, rows_of_inputs: int) -> None:
    fmt, rows, cols, integer, biased = FORMATS[index]
    generator = np.random.default_rng(rows_of_inputs)
    x = generator.standard_normal((rows_of_inputs, cols)).astype(np.float32)
    if integer:
        x = generator.integers(-255, 256, (rows_of_inputs, cols)).astype(np.int16)
    expected = x.astype(np.float64) @ _weight(fmt, rows, cols).dequantize().double().numpy().T
    if biased:
        expected += _bias(rows)
    result = _machine()[f"main{index}"](tvm.runtime.tensor(x)).numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
