"""Codes of b bits in b bits, in an order that vectors unpack.

As in ``eqnet.packed.planes`` a code is split into planes of 8, 4, 2 and 1 bits, its low bits in the widest one. Here a
byte of a plane holds the bits of codes that are ``width`` codes apart, so that ``width`` bytes are unpacked at once.
With a width of 16, the plane of 4 bits of 32 codes is

    byte 0: code 0, code 16 | byte 1: code 1, code 17 | ... | byte 15: code 15, code 31      the first in the low bits

Codes come in blocks, of as many vectors as the narrowest plane has codes in a byte; all planes of a block lie together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.tir.emit import Buffer, Expr, load, loop, splat
from eqnet.export.tvm.tir.layout import round_up
from eqnet.packed.planes import PLANES

Bytes = npt.NDArray[np.uint8]


def planes(bits: int) -> tuple[int, ...]:
    """The widths of the planes of a code, widest first."""
    return tuple(plane for plane in PLANES if bits & plane)


def block_vectors(bits: int) -> int:
    """Vectors of codes in a block."""
    return 8 // planes(bits)[-1]


def vectors(count: int, bits: int, width: int) -> int:
    """Vectors of ``width`` codes that ``count`` codes take, up to the end of the last block."""
    return round_up(-(-count // width), block_vectors(bits))


def packed_bytes(count: int, bits: int, width: int) -> int:
    """Bytes that ``count`` codes take."""
    return vectors(count, bits, width) * width * bits // 8


def pack(codes: Bytes, bits: int, width: int) -> Bytes:
    """Packs the codes of each row.

    Args:
        codes: [rows, count], 0 to 2^bits - 1.
        bits: 1 to 8.
        width: bytes that are unpacked at once.

    Returns:
        uint8 [rows, packed_bytes(count, bits, width)].
    """
    rows, count = codes.shape
    per_block, total = block_vectors(bits), vectors(count, bits, width)
    padded = np.zeros((rows, total * width), np.uint8)
    padded[:, :count] = codes
    blocks = padded.reshape(rows, total // per_block, per_block, width)
    parts, done = [], 0
    for plane in planes(bits):
        fields = ((blocks >> done) & ((1 << plane) - 1)).reshape(rows, -1, per_block * plane // 8, 8 // plane, width)
        shifted = fields << np.arange(0, 8, plane, dtype=np.uint8)[:, None]
        parts.append(np.bitwise_or.reduce(shifted, axis=3).reshape(rows, total // per_block, -1))
        done += plane
    return np.concatenate(parts, axis=2).reshape(rows, -1)


def unpack(packed: Buffer, start: Expr, count: int, bits: int, width: int, write: Callable[[Expr, Expr], None]) -> None:
    """Writes a loop that unpacks one row.

    Args:
        packed: what ``pack`` gave, in one dimension.
        start: of the row.
        count: of the row's codes.
        bits: of a code.
        width: as they were packed.
        write: takes the number of a vector and its codes, uint8 [width].
    """
    per_block = block_vectors(bits)
    with loop(vectors(count, bits, width) // per_block) as block:
        for v in range(per_block):
            code, at, done = None, start + block * (per_block * width * bits // 8), 0
            for plane in planes(bits):
                part = load(packed, width, at + v * plane // 8 * width)
                if plane < 8:
                    part = T.shift_right(part, splat(T.uint8(v * plane % 8), width))
                    part = T.bitwise_and(part, splat(T.uint8((1 << plane) - 1), width))
                if done:
                    part = T.shift_left(part, splat(T.uint8(done), width))
                code = part if code is None else T.bitwise_or(code, part)
                at += per_block * plane // 8 * width
                done += plane
            write(block * per_block + v, code)
