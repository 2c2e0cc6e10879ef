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
    flat = codes.reshape(-1)
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < 1 << bits:
        raise InputError(
            f"codes from {int(flat.min())} to {int(flat.max())} do not fit into {bits} bits; "
            f"expected 0 to {(1 << bits) - 1}"
        )
    flat = flat.to(torch.uint8)
    packed, done = [], 0
    for plane in (p for p in PLANES if bits & p):
        part = (flat >> done) & ((1 << plane) - 1)
        part = torch.nn.functional.pad(part, (0, -flat.numel() % (8 // plane))).view(-1, 8 // plane)
        packed.append((part << _shifts(plane, codes.device)).sum(1, dtype=torch.uint8))
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
    codes = torch.zeros(count, dtype=torch.uint8, device=packed.device)
    start = done = 0
    for plane in (p for p in PLANES if bits & p):
        size = plane_bytes(count, plane)
        part = (packed[start : start + size, None] >> _shifts(plane, packed.device)) & ((1 << plane) - 1)
        codes |= part.view(-1)[:count] << done
        start, done = start + size, done + plane
    return codes


def _shifts(plane: int, device: torch.device) -> Tensor:
    """Where each code of a byte begins, uint8 [8 / plane]."""
    return torch.arange(0, 8, plane, dtype=torch.uint8, device=device)
