"""Packed tensors of wrong parts: each is refused with an ``InputError``, or unpacked to what its bits say."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.packed.planes import unpack
from eqnet.packed.tensor import PackedTensor

DTYPES = (torch.uint8, torch.uint8, torch.uint8, torch.int8, torch.float16, torch.float32, torch.bool, torch.int64)
SIZES = (0, 1, 2, 3, 7, 8, 9, 31, 33)
WRONG_SIZES = (-1, -8, 2**31, 2**63, -(2**63))


def case(draw: random.Random, _: Path) -> str:
    """Unpacks bytes of a size that may be wrong.

    Returns:
        What became of it.

    Raises:
        Exception: a finding.
    """
    try:
        if draw.random() < 0.5:
            _unpacked(draw)
        else:
            _dequantized(draw)
    except InputError:
        return "refused"
    return "unpacked"


def _unpacked(draw: random.Random) -> None:
    count, bits = draw.choice(SIZES), draw.randint(1, 8)
    packed = _part(draw, _bytes(count, bits), torch.uint8)
    count, bits = _mistaken(draw, count), _mistaken(draw, bits)
    codes = unpack(packed, count, bits)
    assert codes.dtype == torch.uint8
    assert codes.tolist() == _by_hand(packed, count, bits)


def _dequantized(draw: random.Random) -> None:
    group = f"group{draw.choice((1, 2, 16, 32))}"
    fmt = Format.parse(f"{draw.choice(('', 'u'))}int{draw.randint(2, 8)}:{draw.choice(('tensor', 'channel', group))}")
    rows, cols = draw.choice(SIZES), draw.choice(SIZES)
    scales = fmt.scale_shape(rows, cols)
    scale = _part(draw, scales[0] * scales[1], draw.choice((torch.float16, torch.bfloat16, torch.float32)))
    if draw.random() < 0.9 and scale.numel() == scales[0] * scales[1]:
        scale = scale.reshape(scales)
    zero_point = None if fmt.symmetric else _part(draw, _bytes(scales[0] * scales[1], fmt.bits), torch.uint8)
    if draw.random() < 0.05:
        zero_point = None if zero_point is not None else torch.zeros(1, dtype=torch.uint8)
    codes = _part(draw, _bytes(rows * cols, fmt.bits), torch.uint8)
    packed = PackedTensor(fmt, _mistaken(draw, rows), _mistaken(draw, cols), codes, scale, zero_point)
    expected = np.array(_by_hand(codes, packed.rows * packed.cols, fmt.bits), np.int64) + fmt.qmin
    assert np.array_equal(packed.integers().numpy(), expected.reshape(packed.rows, packed.cols))
    assert packed.dequantize().shape == (packed.rows, packed.cols)
    assert packed.zero_points().shape == packed.scale.shape


def _part(draw: random.Random, size: int, dtype: torch.dtype) -> Tensor:
    """Random content; now and then of another size, type or shape, or with gaps."""
    size = max(0, size + (draw.choice((-1, 1, 5)) if draw.random() < 0.1 else 0))
    part = torch.tensor(list(draw.randbytes(size)), dtype=torch.uint8)
    part = part.to(draw.choice(DTYPES) if draw.random() < 0.05 else dtype)
    if draw.random() < 0.1:
        part = part.repeat_interleave(2)[::2]
    return part.reshape(draw.choice(((1, -1), (-1, 1)))) if draw.random() < 0.05 and size else part


def _mistaken(draw: random.Random, number: int) -> int:
    if draw.random() < 0.9:
        return number
    return draw.choice((*WRONG_SIZES, -number, number + 1, number - 1, 2 * number))


def _bytes(count: int, bits: int) -> int:
    return sum((count * width + 7) // 8 for width in (8, 4, 2, 1) if bits & width)


def _by_hand(packed: Tensor, count: int, bits: int) -> list[int]:
    """The codes, bit by bit."""
    data, codes, start, done = packed.tolist(), [0] * count, 0, 0
    for width in (8, 4, 2, 1):
        if bits & width:
            for bit in range(count * width):
                value = data[start + bit // 8] >> bit % 8 & 1
                codes[bit // width] |= value << (done + bit % width)
            start, done = start + (count * width + 7) // 8, done + width
    return codes
