"""The order in which codes are packed, as literal bytes, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm

from eqnet.export.tvm.tir import planes
from eqnet.export.tvm.tir.emit import Argument, Buffer, Expr, function, store
from tests.export.tvm.tir.modules import HOST


def test_bytes_of_four_bits() -> None:
    codes = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 15]], np.uint8)
    # Codes 0 and 4 share a byte, 1 and 5, ...; the second block has one code.
    assert planes.pack(codes, 4, 4).tolist() == [[0x40, 0x51, 0x62, 0x73, 0x0F, 0, 0, 0]]


def test_bytes_of_three_bits() -> None:
    codes = np.array([[7, 1, 2, 3, 4, 5, 6, 0, 3]], np.uint8)
    # Low bits of codes 0, 1, 2, 3 and of 4, 5, 6, 7, then the high bits of all eight; then a block of one code.
    assert planes.pack(codes, 3, 1).tolist() == [[0b11_10_01_11, 0b00_10_01_00, 0b0111_0001, 0b11, 0, 0]]


def test_rows_are_apart() -> None:
    codes = np.array([[1, 2], [3, 0]], np.uint8)
    assert planes.pack(codes, 2, 2).tolist() == [[0b01, 0b10], [0b11, 0b00]]


@pytest.mark.parametrize("bits", range(2, 9))
def test_unpacking_gives_the_codes_back(bits: int, generator: torch.Generator) -> None:
    count, width = 37, 16
    codes = torch.randint(0, 2**bits, (2, count), generator=generator).numpy().astype(np.uint8)
    packed = planes.pack(codes, bits, width)
    assert packed.shape == (2, planes.packed_bytes(count, bits, width))
    room = planes.vectors(count, bits, width) * width

    def body(_: Expr, buffers: list[Buffer]) -> None:
        def write(at: Expr, code: Expr) -> None:
            store(buffers[1], code, width, 0, at * width)

        planes.unpack(buffers[0], packed.shape[1], count, bits, width, write)

    arguments = [Argument(packed.size, "uint8"), Argument(room, "uint8", by_image=True)]
    unpack = function(arguments, body).with_attr("global_symbol", "unpack")
    built = tvm.tirx.build(tvm.IRModule({"unpack": unpack}), target=HOST)
    result = tvm.runtime.tensor(np.zeros((1, room), np.uint8))
    built["unpack"](tvm.runtime.tensor(packed.reshape(-1)), result)
    assert result.numpy()[0, :count].tolist() == codes[1].tolist()
