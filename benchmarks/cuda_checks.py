"""The kernels for GPUs against float64, on whatever device a library of them computes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet import Format, Granularity
from eqnet.ops import Tiles, cuda
from eqnet.ops.cuda import CudaLibrary
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

TYPES = (torch.float16, torch.bfloat16)
GROUPS = (0, 16, 20, 32, 64, 128)
"""Columns that share a scale; 0: a whole row. 20 is no whole number of the steps of tensor cores."""

TOKENS = (1, 2, 7, 8, 9, 16, 17, 64, 65)
SHAPES = ((1, 64), (65, 200), (130, 333), (256, 1024))
"""Rows and columns: one row; a tile and a row; nothing whole; all whole."""

SUM = 1e-5
"""Of the sum of magnitudes: sums in float32 in any order, and what tensor cores cut off."""

UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Of a number that is rounded to the type: of results, and of weights that are multiplied in 16 bits."""


@dataclass(frozen=True)
class Failure:
    """What was not as it should be.

    Attributes:
        what: kernel, format, type and shape.
        error: the largest, in units of what is allowed; infinite where something else is wrong.
    """

    what: str
    error: float


def random_weight(bits: int, group: int, symmetric: bool, shape: tuple[int, int], scale: torch.dtype) -> PackedTensor:
    """Every code, scale and zero point is drawn by itself."""
    fmt = Format(bits, symmetric, Granularity.GROUP, group) if group else Format(bits, symmetric, Granularity.CHANNEL)
    generator = torch.Generator().manual_seed(bits)
    scales = fmt.scale_shape(*shape)
    codes = torch.randint(1 << bits, shape, generator=generator)
    zero = torch.randint(1 << bits, scales, generator=generator)
    steps = (torch.rand(scales, generator=generator) + 0.5) / 2**bits
    return PackedTensor(fmt, *shape, pack(codes, bits), steps.to(scale), None if symmetric else pack(zero, bits))


def weights(every: int = 1) -> Iterator[tuple[str, PackedTensor]]:
    """One in ``every`` of the formats × shapes, with the scales' type going round."""
    scales = itertools.cycle((torch.float16, torch.bfloat16, torch.float32))
    cases = itertools.product(range(2, 9), GROUPS, (True, False), SHAPES)
    for number, ((bits, group, symmetric, shape), scale) in enumerate(zip(cases, scales)):
        if number % every == 0 and group <= shape[1]:
            weight = random_weight(bits, group, symmetric, shape, scale)
            yield f"{weight.format} {list(shape)} scales {str(scale).removeprefix('torch.')}", weight


def failures(library: CudaLibrary, device: torch.device, every: int = 1) -> Iterator[Failure | None]:
    """What fails of every kernel; None for each case that does not."""
    for name, weight in weights(every):
        tiles = moved(Tiles.of(weight), device)
        exact = weight.dequantize().double().to(device)
        for dtype in (*TYPES, torch.float32):
            found = library.dequantize(tiles, dtype).double()
            allowed = exact.abs() * (UNIT.get(dtype, 2.0**-24) + 2.0**-24) + 2.0**-24
            yield _judged(f"dequantize {name} {dtype}", found, exact, allowed)
        yield _judged(f"embedding {name}", _rows(library, weight, device), exact[[0, -1]], exact[[0, -1]].abs() * 1e-7)
        for dtype, tokens in itertools.product(TYPES, TOKENS):
            yield _product(library, f"linear {name} {dtype} {tokens} tokens", tiles, exact, dtype, tokens)


def moved(tiles: Tiles, device: torch.device, *, copy: bool = False) -> Tiles:
    """The same weight on a device; memory of its own, if that is asked for."""
    codes, scales, zeros = (None if part is None else part.to(device, copy=copy) for part in tiles[:3])
    return tiles._replace(codes=codes, scales=scales, zeros=zeros)


def _product(
    library: CudaLibrary, what: str, tiles: Tiles, exact: Tensor, dtype: torch.dtype, tokens: int
) -> Failure | None:
    rows, cols = exact.shape
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, cols, generator=generator).to(dtype).to(exact.device)
    bias = torch.randn(rows, generator=generator).to(exact.device)
    first, second = (cuda.linear(library, x, tiles, bias, x.new_empty(tokens, rows)) for _ in range(2))
    if not torch.equal(first, second):
        return Failure(f"{what}: two calls differ", float("inf"))
    expected = x.double() @ exact.T + bias.double()
    magnitudes = x.double().abs() @ exact.abs().T + bias.double().abs()
    allowed = (SUM + UNIT[dtype]) * magnitudes + UNIT[dtype] * expected.abs() + 1e-7
    return _judged(what, first.double(), expected, allowed)


def _rows(library: CudaLibrary, weight: PackedTensor, device: torch.device) -> Tensor:
    """The first and the last row of a table."""
    zero = None if weight.zero_point is None else weight.zero_point.to(device)
    size = min(weight.format.group_size or weight.cols, weight.cols)
    indices = torch.tensor([0, weight.rows - 1], device=device)
    out = torch.empty(2, weight.cols, device=device)
    shape = weight.rows, weight.cols, size, weight.format.bits
    return library.embedding(indices, weight.codes.to(device), weight.scale.to(device), zero, shape, out).double()


def _judged(what: str, found: Tensor, exact: Tensor, allowed: Tensor) -> Failure | None:
    error = ((found - exact).abs() / allowed.clamp(min=1e-30)).nan_to_num(float("inf"), float("inf")).max().item()
    return None if error <= 1 else Failure(what, error)
