"""Linear layers on packed weights, against float64, integers by hand, and torch's own gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet import _kernels
from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.ops import Panels, packed_linear, packed_linear_static
from eqnet.ops.linear import _linear_reference, _static_reference
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.ops.sweep import segments, sweep
from tests.eqnet.ops.weights import FORMATS, made

FLOAT = 1e-6
"""Relative error over all outputs of ``compute="float"``; float32 sums of up to 4096 products."""

TWO_WAYS = 4e-6
"""Largest error over the largest output of one row between kernels for few rows and for many: two orders of sums."""

GRADIENT = 1e-5
"""Relative error of a gradient; float32 sums of 33 products, once with a rounded output."""

CODES = Format.parse("uint8:tensor")


def relative(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


def static(x: Tensor, weight: Panels, bias: Tensor | None = None, fmt: Format = CODES, zero: int = 100) -> Tensor:
    return packed_linear_static(x, weight, bias, weight.dequantize().sum(1), fmt, 0.03, 0 if fmt.symmetric else zero)


WAYS: dict[str, Callable[[Tensor, Panels], Tensor]] = {
    "float": packed_linear,
    "int8": lambda x, weight: packed_linear(x, weight, compute="int8"),
    "static": static,
}
BY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_format_and_shape_is_within_its_bounds(bits: int) -> None:
    sweep([fmt for fmt in FORMATS if fmt.bits == bits])


@pytest.mark.parametrize(("isa", "every"), [("avx512", 3), ("avx2", 3), ("neon", 3), ("portable", 7)])
def test_they_are_on_every_instruction_set(isa: str, every: int) -> None:
    if isa == _kernels.isa():
        pytest.skip("the other tests run it")
    run = subprocess.run(
        [sys.executable, "-m", "tests.eqnet.ops.sweep", str(every)],
        env={**os.environ, "EQNET_CPU": isa},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    if "this processor has no such instructions" in run.stderr:
        pytest.skip("this processor has no such instructions")
    assert run.stdout == f"{isa}\n", run.stderr


def test_an_instruction_set_that_is_none_is_refused() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import eqnet.ops"],
        env={**os.environ, "EQNET_CPU": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr.splitlines()[-1] == (
        "eqnet.errors.InputError: EQNET_CPU=nonsense: expected portable, neon, avx2 or avx512; "
        "unset it for the best that there is"
    )


@pytest.mark.parametrize("m", [1, 4, 16])
@pytest.mark.parametrize("fmt", ["int4:group32", "uint4:group32", "int8:channel", "uint3:group128", "int2:tensor"])
def test_float_is_exact_to_a_millionth(fmt: str, m: int, generator: torch.Generator) -> None:
    weight = made(Format.parse(fmt), 96, 4096)
    x = torch.randn(m, 4096, generator=generator)
    exact = x.double() @ weight.dequantize().double().T
    assert relative(packed_linear(x, Panels.of(weight)), exact) <= FLOAT


def differences(weight: PackedTensor) -> Tensor:
    """Codes less zero points."""
    size = weight.format.group_size or weight.cols
    return weight.integers() - weight.zero_points().repeat_interleave(size, 1)[:, : weight.cols]


def int8_by_hand(x: Tensor, weight: Tensor, scale: Tensor, size: int) -> np.ndarray:
    """Sums of products of integers; ``weight`` [rows, cols] is in codes less zero points, ``scale`` [rows, groups]."""
    result = np.zeros((len(x), len(weight)))
    for part in segments(x.shape[1], size):
        values = x.numpy()[:, part]
        magnitude = np.abs(values).max(axis=1, keepdims=True)
        codes = np.rint(values * (np.float32(127) / magnitude)).astype(np.int64)
        sums = codes @ weight.numpy()[:, part].astype(np.int64).T
        scales = scale.float().numpy()[:, part.start // size] * (magnitude / np.float32(127))  # float32 [m, rows]
        result += (sums * scales.astype(np.float64)).astype(np.float32)
    return result.astype(np.float32)


@pytest.mark.parametrize("m", [1, 3, 8, 9, 33])
@pytest.mark.parametrize("fmt", ["int2:channel", "uint4:channel", "int5:channel", "uint8:channel", "int8:channel"])
def test_int8_of_one_segment_is_integers_by_hand(fmt: str, m: int, generator: torch.Generator) -> None:
    weight = made(Format.parse(fmt), 35, 30, torch.float32)
    x = torch.randn(m, 30, generator=generator)
    x[0] = 0
    integers = differences(weight)
    with np.errstate(divide="ignore", invalid="ignore"):  # of the row of zeros
        expected = np.nan_to_num(int8_by_hand(x, integers, weight.scale, 30))
    np.testing.assert_array_equal(packed_linear(x, Panels.of(weight), compute="int8").numpy(), expected)


@pytest.mark.parametrize("fmt", ["int4:group32", "uint4:group16", "int3:group24", "uint6:group320", "int8:channel"])
def test_int8_of_many_segments_is_integers_by_hand(fmt: str, generator: torch.Generator) -> None:
    weight = made(Format.parse(fmt), 35, 640)
    x = torch.randn(11, 640, generator=generator)
    integers = differences(weight)
    expected = torch.from_numpy(int8_by_hand(x, integers, weight.scale, weight.format.group_size or 640)).double()
    for m in (2, 11):
        assert relative(packed_linear(x[:m], Panels.of(weight), compute="int8"), expected[:m]) <= FLOAT


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("compute", ["float", "int8"])
@pytest.mark.parametrize("m", [1, 5, 20])
def test_what_is_not_finite_spoils_its_own_row_alone(
    m: int, compute: str, bad: float, generator: torch.Generator
) -> None:
    weight = Panels.of(made(Format.parse("uint4:group32"), 40, 100))
    x = torch.randn(m, 100, generator=generator)
    before = packed_linear(x, weight, compute=compute)
    x[m // 2, 77] = bad
    after = packed_linear(x, weight, compute=compute)
    assert not torch.isfinite(after[m // 2]).any()
    others = [row for row in range(m) if row != m // 2]
    assert torch.equal(after[others], before[others])


def test_static_activations_saturate(generator: torch.Generator) -> None:
    weight = Panels.of(made(Format.parse("int4:channel"), 5, 40))
    x = torch.randn(3, 40, generator=generator)
    x[1, 7], x[2, 8] = float("inf"), -1e30
    clipped = x.clamp(-3, 4.65)  # codes 0 and 255 around 100, times 0.03
    torch.testing.assert_close(static(x, weight), static(clipped, weight), rtol=0, atol=0)


@pytest.mark.parametrize("m", [1, 5, 20])
def test_static_activations_pass_on_nan_in_its_row_alone(m: int, generator: torch.Generator) -> None:
    weight = Panels.of(made(Format.parse("uint4:group32"), 40, 100))
    x = torch.randn(m, 100, generator=generator)
    before = static(x, weight)
    x[m // 2, 77] = float("nan")
    after = static(x, weight)
    assert after[m // 2].isnan().all()
    others = [row for row in range(m) if row != m // 2]
    assert torch.equal(after[others], before[others])


@BY_WAY
@pytest.mark.parametrize("shape", [(0, 70), (70,), (2, 3, 70), (2, 0, 70), (1, 1, 1, 70), (5, 9, 70)], ids=str)
def test_leading_dimensions_are_kept(shape: tuple[int, ...], way, generator: torch.Generator) -> None:
    weight = Panels.of(made(Format.parse("uint5:group24"), 9, 70))
    x = torch.randn(shape, generator=generator)
    y = way(x, weight)
    assert y.shape == (*shape[:-1], 9)
    assert torch.equal(y.reshape(-1, 9), way(x.reshape(-1, 70), weight))


@BY_WAY
@pytest.mark.parametrize(
    "view",
    [lambda x: x.transpose(0, 1), lambda x: x[:, ::2], lambda x: x[:1].expand(4, 6, 70), lambda x: x[..., :70].flip(0)],
    ids=["transposed", "strided", "expanded", "flipped"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_layout_in_memory_does_not_matter(dtype: torch.dtype, view, way, generator: torch.Generator) -> None:
    weight = Panels.of(made(Format.parse("int3:group16"), 9, 70))
    x = view(torch.randn(4, 6, 70, generator=generator).to(dtype))
    y = way(x, weight)
    assert y.dtype == dtype
    assert y.is_contiguous()
    assert torch.equal(y, way(x.clone(memory_format=torch.contiguous_format), weight))


@BY_WAY
def test_a_row_does_not_depend_on_the_others(way, generator: torch.Generator) -> None:
    weight = Panels.of(made(Format.parse("uint4:group32"), 70, 320))
    x = torch.randn(41, 320, generator=generator)
    few = torch.cat([way(row[None], weight) for row in x])
    many = way(x, weight)
    for m in (2, 3, 5, 8, 9, 16, 23):
        found = way(x[:m], weight)
        assert torch.equal(found, few[:m]) or torch.equal(found, many[:m])
    assert (few - many).abs().max() <= TWO_WAYS * many.abs().max()


@BY_WAY
@pytest.mark.parametrize("m", [1, 8, 300])
def test_results_do_not_depend_on_the_number_of_threads(m: int, way, generator: torch.Generator) -> None:
    weight = Panels.of(made(Format.parse("int4:group32"), 480, 256))
    x = torch.randn(m, 256, generator=generator)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(way(x, weight))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_threads_that_call_at_once_get_what_they_get_alone(generator: torch.Generator) -> None:
    torch.set_num_threads(2)
    weights = [
        Panels.of(made(Format.parse(fmt), 512, 320, seed=i)) for i, fmt in enumerate(("int4:group32", "uint3:channel"))
    ]
    calls = [
        (way, torch.randn(m, 320, generator=generator), weight)
        for way in WAYS.values()
        for m in (1, 7, 40)
        for weight in weights
    ]
    alone = [way(x, weight) for way, x, weight in calls]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda i: (i % len(calls), calls[i % len(calls)][0](*calls[i % len(calls)][1:])), range(288))
        )
    assert all(torch.equal(found, alone[index]) for index, found in results)


@pytest.mark.parametrize("m", [1, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_gradient_of_the_input_is_that_of_the_dequantized_weight(
    dtype: torch.dtype, m: int, generator: torch.Generator
) -> None:
    panels = Panels.of(made(Format.parse("uint4:group16"), 33, 50))
    dense = panels.dequantize()
    bias = torch.randn(33, generator=generator)
    values = torch.randn(m, 50, generator=generator).to(dtype)
    grad = torch.randn(m, 33, generator=generator).to(dtype)
    rounded = 0.0 if dtype == torch.float32 else 2**-8  # of bfloat16
    x, plain = values.clone().requires_grad_(), values.double().requires_grad_()
    packed_linear(x, panels, bias).backward(grad)
    F.linear(plain, dense.double(), bias.double()).backward(grad.double())
    assert relative(x.grad, plain.grad) <= GRADIENT + rounded
    x = values.clone().requires_grad_()
    static(x, panels, bias, Format.parse("uint4:tensor"), 8).backward(grad)
    codes = np.rint(values.float().numpy() / np.float32(0.03)) + 8
    inside = torch.from_numpy((codes >= 0) & (codes <= 15))
    assert 0 < inside.sum() < inside.numel()
    assert relative(x.grad, (grad.double() @ dense.double()) * inside) <= GRADIENT + rounded


class Adapted(nn.Module):
    """A layer on packed weights of each kind, around one that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Panels.of(made(Format.parse("uint4:group16"), 24, 50))
        self.second = Panels.of(made(Format.parse("int3:channel"), 7, 24))
        self.register_buffer("sums", self.second.dequantize().sum(1))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.adapter = nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.adapter(packed_linear(x, self.first, compute="int8")).relu()
        return packed_linear_static(x, self.second, None, self.get_buffer("sums"), CODES, 0.1, 3)


def test_compile_sees_through(generator: torch.Generator) -> None:
    model = Adapted()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for m in (1, 3, 12):  # a second size makes the number of rows symbolic
        x = torch.randn(m, 50, generator=generator)
        assert torch.equal(compiled(x), model(x))
    x = torch.randn(12, 50, generator=generator)
    model(x).square().sum().backward()
    expected = model.adapter.weight.grad.clone()
    model.zero_grad()
    compiled(x).square().sum().backward()
    torch.testing.assert_close(model.adapter.weight.grad, expected)


def test_export_sees_through(generator: torch.Generator) -> None:
    model = Adapted()
    rows = {"x": {0: torch.export.Dim("rows")}}
    exported = torch.export.export(model, (torch.randn(4, 50, generator=generator),), dynamic_shapes=rows)
    names = {str(node.target) for node in exported.graph.nodes}
    assert {"eqnet.packed_linear.default", "eqnet.packed_linear_static.default"} <= names
    for m in (1, 9):
        x = torch.randn(m, 50, generator=generator)
        assert torch.equal(exported.module()(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_ops_keep_the_rules_of_torch_library(dtype: torch.dtype, generator: torch.Generator) -> None:
    for fmt in ("int3:channel", "uint5:group16"):
        codes, scales, zeros, shape = panels = Panels.of(made(Format.parse(fmt), 7, 70))
        weight = codes, scales, zeros, list(shape)
        x = torch.randn(3, 70, 2, generator=generator).to(dtype).transpose(1, 2).requires_grad_()
        bias = torch.randn(7, generator=generator)
        for compute in ("float", "int8"):
            torch.library.opcheck(torch.ops.eqnet.packed_linear.default, (x, *weight, bias, compute))
        sums = panels.dequantize().sum(1)
        torch.library.opcheck(torch.ops.eqnet.packed_linear_static.default, (x, *weight, None, sums, 0.03, 100, 0, 255))


def test_the_slow_references_compute_the_same(generator: torch.Generator) -> None:
    weight = Panels.of(made(Format.parse("uint4:group24"), 33, 100))
    x, bias = torch.randn(5, 100, generator=generator), torch.randn(33, generator=generator)
    exact = _linear_reference(x, weight, bias, "float").double()
    assert relative(packed_linear(x, weight, bias), exact) <= FLOAT
    exact = _static_reference(x, weight, bias, weight.dequantize().sum(1), 0.03, 100, 0, 255).double()
    assert relative(static(x, weight, bias), exact) <= FLOAT


WEIGHT = Panels.of(made(Format.parse("int4:channel"), 5, 40))
X, SUMS = torch.zeros(2, 40), torch.zeros(5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: packed_linear(torch.zeros(2, 41), WEIGHT), r"expected x of shape \[\.\.\., 40\], got \(2, 41\)"),
        (lambda: packed_linear(torch.tensor(1.0), WEIGHT), r"expected x of shape \[\.\.\., 40\], got \(\)"),
        (lambda: packed_linear(X.double(), WEIGHT), "expected x in float32 or bfloat16, got float64"),
        (lambda: packed_linear(X, WEIGHT, compute="int4"), "compute='int4' is unknown; choose float or int8"),
        (lambda: packed_linear(X, WEIGHT, SUMS.double()), r"expected a bias in float32 of shape \(5,\) without gaps"),
        (lambda: packed_linear(X, WEIGHT, SUMS[:4]), r"got float32 of shape \(4,\)"),
        (lambda: packed_linear(X, WEIGHT, torch.zeros(10)[::2]), "without gaps"),
        (lambda: packed_linear(X, WEIGHT._replace(codes=WEIGHT.codes[1:])), "are no panels of a weight of shape"),
        (lambda: packed_linear_static(X, WEIGHT, None, SUMS[:3], CODES, 0.1, 3), "expected a correction in float32"),
        (lambda: packed_linear_static(X, WEIGHT, None, SUMS, CODES, 0.0, 3), "a scale of 0.0 and codes from 0 to 255"),
        (lambda: packed_linear_static(X, WEIGHT, None, SUMS, CODES, 0.1, 256), "from 0 to 255 around 256"),
        (lambda: torch.ops.eqnet.packed_linear_static(X, *WEIGHT, None, SUMS, 1.0, 0, -128, 128), "from -128 to 128"),
    ],
    ids=["columns", "no dimension", "type", "compute", "type of bias", "shape of bias", "bias with gaps", "panels",
         "correction", "scale", "zero point", "codes"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
