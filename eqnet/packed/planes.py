"""Codes of b bits in b bits: one dense plane for each power of two in b.

A stored code is unsigned: the code less the smallest one of its format, 0 to 2^b - 1. Its low bits go to the widest
plane, what is above them to the next one. Within a byte the first code has the lowest bits, and every plane ends at a
whole byte, its unused bits 0. Codes a, b, c, d, … of 3 bits, in planes of 2 and of 1 bits:

    plane of 2    d₁d₀ c₁c₀ b₁b₀ a₁a₀    h₁h₀ g₁g₀ f₁f₀ e₁e₀    …
    plane of 1    h₂ g₂ f₂ e₂ d₂ c₂ b₂ a₂    …

The planes follow each other, the widest first: 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.packed.layout import PLANES as PLANES
from eqnet.packed.layout import plane_bytes as plane_bytes


def pack(codes: Tensor, bits: int) -> Tensor:
    """The planes of ``codes``.

    Args:
        codes: integers of 0 to 2^bits - 1, any shape, taken in row-major order.
        bits: 1 to 8.

    Returns:
        uint8 [plane_bytes(codes.numel(), bits)].

    Raises:
        InputError: a code does not fit.
    """
    plane_bytes(codes.numel(), bits)  # raises if there are no such codes
    flat, count = codes.reshape(-1), codes.numel()
    low, high = (int(end) for end in torch.aminmax(flat)) if count else (0, 0)
    if not 0 <= low <= high < 1 << bits:
        raise InputError(f"codes from {low} to {high} do not fit into {bits} bits; expected 0 to {(1 << bits) - 1}")
    bytes_ = torch.zeros(-(-count // 8) * 8, dtype=torch.uint8, device=codes.device)
    bytes_[:count] = flat
    words, packed, done = bytes_.view(torch.int64), [], 0
    for plane in (p for p in PLANES if bits & p):
        packed.append(_joined((words >> done) & _in_each(8, plane), plane)[: plane_bytes(count, plane)])
        done += plane
    return torch.cat(packed)


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """The codes that ``pack`` was given, uint8 [count].

    Args:
        packed: uint8 [plane_bytes(count, bits)].
        count: of the codes.
        bits: 1 to 8.

    Raises:
        InputError: ``packed`` is of another size or type, or there are no such codes.
    """
    expected = plane_bytes(count, bits)
    if packed.dtype != torch.uint8 or packed.shape != (expected,):
        raise InputError(
            f"{count} codes of {bits} bits take {expected} bytes of uint8; "
            f"found {str(packed.dtype).removeprefix('torch.')} of shape {tuple(packed.shape)}"
        )
    words = torch.zeros(-(-count // 8), dtype=torch.int64, device=packed.device)
    start = done = 0
    for plane in (p for p in PLANES if bits & p):
        size = plane_bytes(count, plane)
        words |= _spread(packed[start : start + size], plane, len(words)) << done
        start, done = start + size, done + plane
    return words.view(torch.uint8)[:count]


_INTEGERS = {8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}
"""By their bits, those that one byte of a plane is spread over."""


def _joined(words: Tensor, plane: int) -> Tensor:
    """Words of eight codes, a byte each, to the bytes of their plane: neighbours are joined until they fill a byte."""
    lane = 8
    while plane < 8:
        words = (words | words >> (lane - plane)) & _in_each(2 * lane, 2 * plane)
        lane, plane = 2 * lane, 2 * plane
    return words.view(_INTEGERS[lane]).to(torch.uint8)


def _spread(packed: Tensor, plane: int, count: int) -> Tensor:
    """The other way round; so many words, int64 [count]."""
    width, lane = 8, 64 // plane
    filled = torch.zeros(count * plane, dtype=_INTEGERS[lane], device=packed.device)
    filled[: len(packed)] = packed
    words = filled.view(torch.int64)
    while lane > 8:
        lane, width = lane // 2, width // 2
        words = (words | words << (lane - width)) & _in_each(lane, width)
    return words


def _in_each(lane: int, width: int) -> int:
    """The lowest ``width`` bits of each lane of a word, as a signed number."""
    bits = sum(((1 << width) - 1) << start for start in range(0, 64, lane))
    return bits - (bits >> 63 << 64)
