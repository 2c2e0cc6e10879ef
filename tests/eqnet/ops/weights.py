"""Random packed weights of every format, and shapes that are awkward for them."""

from __future__ import annotations

from itertools import product

import torch

from eqnet.formats import Format
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

GRANULARITIES = ("tensor", "channel", *(f"group{size}" for size in (5, 16, 24, 32, 64, 128, 256, 320)))

FORMATS = [
    Format.parse(f"{sign}int{bits}:{granularity}")
    for bits, granularity, sign in product(range(2, 9), GRANULARITIES, ("", "u"))
]

SHAPES = ((1, 1), (5, 31), (33, 100), (64, 640), (1, 640), (33, 1))
"""Rows and columns: less than a panel, a panel and one more, whole panels; less than a block, none whole, all whole."""

SCALES = (torch.float16, torch.bfloat16, torch.float32)


def made(fmt: Format, rows: int, cols: int, scale: torch.dtype = torch.float16, seed: int = 0) -> PackedTensor:
    """Every code, zero point and scale is drawn by itself."""
    generator = torch.Generator().manual_seed(seed)
    shape = fmt.scale_shape(rows, cols)
    codes = torch.randint(0, 2**fmt.bits, (rows, cols), generator=generator)
    zero = torch.randint(0, 2**fmt.bits, shape, generator=generator)
    scales = (torch.rand(shape, generator=generator) + 0.5) / 50
    return PackedTensor(
        fmt, rows, cols, pack(codes, fmt.bits), scales.to(scale), None if fmt.symmetric else pack(zero, fmt.bits)
    )


def numbered(formats: list[Format]) -> list[tuple[int, Format]]:
    """Each format with a number, which picks what need not go with every format."""
    return list(enumerate(formats))
