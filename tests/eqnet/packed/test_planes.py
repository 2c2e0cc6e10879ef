"""The layout of planes, byte by byte, and against NumPy's own packing of bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqnet import InputError
from eqnet.packed.planes import pack, plane_bytes, unpack

LITERAL = {
    1: ([1, 0, 1, 1, 0, 0, 0, 0, 1], "0d 01"),
    2: ([0, 1, 2, 3, 3], "e4 03"),
    3: ([0, 1, 2, 3, 4, 5, 6, 7, 5], "e4 e4 01f0 01"),
    4: ([0x1, 0x2, 0xF], "21 0f"),
    5: ([0x1F, 0x01, 0x10], "1f 0005"),
    6: ([0x3F, 0x21, 0x12], "1f 021b"),
    7: ([0x7F, 0x41, 0x32], "1f 023303"),
    8: ([0, 255, 128], "00 ff 80"),
}


@pytest.mark.parametrize("bits", LITERAL)
def test_the_bytes_are_those_of_the_drawing(bits: int) -> None:
    codes, text = LITERAL[bits]
    packed = pack(torch.tensor(codes), bits)
    assert bytes(packed.tolist()).hex(" ") == bytes.fromhex(text).hex(" ")
    assert unpack(packed, len(codes), bits).tolist() == codes


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1001])
@pytest.mark.parametrize("bits", range(1, 9))
def test_planes_are_numpys_packed_bits(bits: int, count: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, count)
    digits = (codes[:, None] >> np.arange(bits) & 1).astype(np.uint8)  # [count, bits], lowest first
    columns = np.split(digits, np.cumsum([p for p in (8, 4, 2, 1) if bits & p])[:-1], axis=1)
    expected = np.concatenate([np.packbits(plane.reshape(-1), bitorder="little") for plane in columns])
    packed = pack(torch.from_numpy(codes), bits)
    assert np.array_equal(packed.numpy(), expected)
    assert packed.numel() == plane_bytes(count, bits)
    assert np.array_equal(unpack(packed, count, bits).numpy(), codes)


@pytest.mark.parametrize(("codes", "span"), [([0, 8], "from 0 to 8"), ([-1, 2], "from -1 to 2")])
def test_codes_that_do_not_fit_are_refused(codes: list[int], span: str) -> None:
    with pytest.raises(InputError, match=f"codes {span} do not fit into 3 bits; expected 0 to 7"):
        pack(torch.tensor(codes), 3)


@pytest.mark.parametrize(("count", "bits"), [(-1, 4), (3, 0), (3, 9), (3, -4)])
def test_what_is_no_number_of_codes_is_refused(count: int, bits: int) -> None:
    with pytest.raises(InputError, match=f"{count} codes of {bits} bits were asked for"):
        unpack(torch.zeros(0, dtype=torch.uint8), count, bits)


def test_codes_of_nine_bits_are_refused() -> None:
    with pytest.raises(InputError, match="3 codes of 9 bits were asked for; expected 0 or more, of 1 to 8 bits"):
        pack(torch.zeros(3), 9)


@pytest.mark.parametrize("bad", [torch.zeros(4, dtype=torch.uint8), torch.zeros(5), torch.zeros(5, 1).byte()])
def test_planes_of_another_size_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"9 codes of 3 bits take 5 bytes of uint8; found (uint8|float32)"):
        unpack(bad, 9, 3)
