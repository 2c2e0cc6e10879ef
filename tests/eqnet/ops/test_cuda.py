"""The way from tensors to the kernels for GPUs and back: the library on the emulator, for memory of the CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eqnet.errors import InputError, RunError
from eqnet.formats import Format
from eqnet.ops import Tiles, cuda, packed_embedding
from eqnet.ops.cuda import CudaLibrary
from tests.eqnet.ops.weights import made

pytestmark = pytest.mark.timeout(900)  # it is compiled first, unless the kernels' own tests were

ROOT = Path(__file__).parents[3]

UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Relative error of one rounding; results are rounded once, and weights may be."""

SUM = 1e-5
"""Of the sum of magnitudes: float32, in any order."""


@pytest.fixture(scope="module")
def path() -> Path:
    """The library, as the kernels' own tests build it."""
    if shutil.which("cmake") is None:
        pytest.skip("needs CMake")
    build = ROOT / "build" / "tests" / "sanitize"
    configure = ["cmake", "-S", str(ROOT / "tests" / "cpp"), "-B", str(build), "-DSANITIZE=ON"]
    for command in (configure, ["cmake", "--build", str(build), "--target", "eqnet_cuda_emulated"]):
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
    return build / "cuda" / "libeqnet_cuda_emulated.so"


@pytest.fixture(scope="module")
def library(path: Path) -> CudaLibrary:
    """The same, loaded."""
    return CudaLibrary(path)


def expect_close(found: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    magnitudes = F.linear(x.double().abs(), weight.double().abs(), None if bias is None else bias.double().abs())
    allowed = (SUM + UNIT[x.dtype]) * magnitudes + UNIT[x.dtype] * exact.abs()
    assert found.dtype == x.dtype
    assert ((found.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", UNIT, ids=str)
@pytest.mark.parametrize("tokens", [1, 9])
@pytest.mark.parametrize(
    "fmt", ["int2:channel", "uint3:group16", "int4:group32", "uint5:tensor", "int6:group24", "uint8:group64"]
)
def test_products_are_those_of_float64(library: CudaLibrary, fmt: str, tokens: int, dtype: torch.dtype) -> None:
    weight = made(Format.parse(fmt), 70, 130)
    generator = torch.Generator().manual_seed(tokens)
    x, bias = torch.randn(tokens, 130, generator=generator).to(dtype), torch.randn(70, generator=generator)
    tiles = Tiles.of(weight)
    out = x.new_empty(tokens, 70)
    assert cuda.linear(library, x, tiles, bias, out) is out
    expect_close(out, x, weight.dequantize(), bias)
    # Counters are as they were.
    assert torch.equal(cuda.linear(library, x, tiles, bias, torch.empty_like(out)), out)


def test_columns_that_are_divided_among_blocks_add_up(library: CudaLibrary) -> None:
    weight = made(Format.parse("int4:group128"), 64, 4096)
    x = torch.randn(2, 3, 4096, generator=torch.Generator().manual_seed(0)).half()
    out = cuda.linear(library, x, Tiles.of(weight), None, x.new_empty(2, 3, 64))
    expect_close(out, x, weight.dequantize(), None)


def test_parts_of_tensors_are_taken(library: CudaLibrary) -> None:
    weight = made(Format.parse("uint4:group16"), 24, 64)
    x = torch.randn(3, 65, generator=torch.Generator().manual_seed(0)).half()[:, 1:]  # with gaps
    bias = torch.randn(25, generator=torch.Generator().manual_seed(1))[1:]  # not where 16 bytes begin
    expect_close(cuda.linear(library, x, Tiles.of(weight), bias, x.new_empty(3, 24)), x, weight.dequantize(), bias)
    flat = torch.randn(65, generator=torch.Generator().manual_seed(2)).half()[1:]
    expect_close(cuda.linear(library, flat, Tiles.of(weight), None, x.new_empty(24)), flat, weight.dequantize(), None)


def test_nothing_is_asked_for(library: CudaLibrary) -> None:
    tiles = Tiles.of(made(Format.parse("int4:channel"), 8, 64))
    x = torch.empty(0, 64, dtype=torch.float16)
    assert cuda.linear(library, x, tiles, None, x.new_empty(0, 8)).shape == (0, 8)
    no_rows = Tiles.of(made(Format.parse("int4:channel"), 0, 64))
    assert cuda.linear(library, x.new_zeros(3, 64), no_rows, None, x.new_empty(3, 0)).shape == (3, 0)


def test_other_types_and_a_lack_of_kernels_take_the_dequantized_weight(library: CudaLibrary) -> None:
    weight = made(Format.parse("uint6:group32"), 30, 96)
    x = torch.randn(2, 96, generator=torch.Generator().manual_seed(0))
    expected = F.linear(x, weight.dequantize())
    for available in (library, None):
        assert torch.equal(cuda.linear(available, x, Tiles.of(weight), None, x.new_empty(2, 30)), expected)
    half = x.half()
    expect_close(
        cuda.linear(None, half, Tiles.of(weight), None, half.new_empty(2, 30)), half, weight.dequantize(), None
    )


@pytest.mark.parametrize("fmt", ["int3:channel", "uint7:group20"])
def test_weights_are_dequantized(library: CudaLibrary, fmt: str) -> None:
    weight = made(Format.parse(fmt), 33, 100)
    tiles = Tiles.of(weight)
    assert torch.equal(cuda.dequantize(library, tiles, torch.float32), weight.dequantize())
    for dtype in UNIT:
        assert torch.equal(cuda.dequantize(library, tiles, dtype), weight.dequantize().to(dtype))


@pytest.mark.parametrize("fmt", ["int5:tensor", "uint3:group24"])
def test_rows_of_a_table_are_those_of_the_cpu(library: CudaLibrary, fmt: str) -> None:
    table = made(Format.parse(fmt), 11, 45)
    shape = table.rows, table.cols, min(table.format.group_size or table.cols, table.cols), table.format.bits
    stored = table.codes, table.scale, table.zero_point
    indices = torch.tensor([[3, 0], [10, 3]])
    found = library.embedding(indices, *stored, shape, torch.empty(2, 2, 45))
    assert torch.equal(found, packed_embedding(indices, *stored, shape))
    outside = library.embedding(torch.tensor([-1, 11, 2]), *stored, shape, torch.empty(3, 45))
    assert outside[:2].isnan().all()
    assert torch.equal(outside[2], table.dequantize()[2])


def test_what_the_kernels_refuse_is_said(library: CudaLibrary) -> None:
    tiles = Tiles.of(made(Format.parse("int4:channel"), 8, 64))
    elsewhere = torch.zeros(tiles.codes.numel() + 1, dtype=torch.uint8)[1:]
    x = torch.zeros(1, 64).half()
    with pytest.raises(InputError, match=r"^linear on the GPU: .*codes lies 1 bytes past a multiple of 16"):
        library.linear(x, tiles._replace(codes=elsewhere), None, x.new_empty(1, 8))
    with pytest.raises(InputError, match=r"^packed_linear: .* are no tiles of a weight of shape \[8, 64, 64, 3\]"):
        cuda.linear(library, x, tiles._replace(shape=(8, 64, 64, 3)), None, x.new_empty(1, 8))


def test_a_file_that_is_no_such_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"no library")
    with pytest.raises(RunError, match=r"lib\.so: the kernels for GPUs cannot be loaded .*; install eqnet anew"):
        CudaLibrary(tmp_path / "lib.so")
    with pytest.raises(RunError, match="cannot be loaded"):
        CudaLibrary(Path(torch.__file__).parent / "lib" / "libtorch_global_deps.so")


def test_the_check_for_gpus_passes(path: Path) -> None:
    command = [sys.executable, "benchmarks/cuda_gpu.py", "--library", str(path), "--every", "61"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    cases, _, failed = run.stdout.split()[:3]
    assert int(cases) > 100
    assert failed == "0"
