"""What this machine can do at most, measured as one more call beside the kernels."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache, partial

from native import compiled

READ_AT_ONCE = 64 << 20
"""A call reads at least so many bytes, so that starting its threads does not count."""

INT8_REPEATS = 2_000_000
"""Rounds of products in registers: some milliseconds."""


@cache
def _library() -> ctypes.CDLL:
    # What eqnet's kernels are held to, they may also use.
    restricted = os.environ.get("EQNET_CPU") == "avx2"
    library = compiled("roofline.cpp", *(["-mno-avx512f"] if restricted else []))
    library.roofline_buffer.restype, library.roofline_buffer.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.roofline_read.restype = None
    library.roofline_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
    library.roofline_int8.restype = ctypes.c_double
    library.roofline_int8.argtypes = [ctypes.c_int64, ctypes.c_int]
    return library


@cache
def _buffer(nbytes: int) -> int:
    address = _library().roofline_buffer(nbytes)
    if not address:
        raise SystemExit(f"no memory for {nbytes} bytes to read")
    return int(address)


def reading(nbytes: int, threads: int) -> tuple[Callable[[], object], float]:
    """A call that reads ``nbytes`` of memory over and over, and how many bytes it reads in all."""
    repeats = -(-READ_AT_ONCE // nbytes)
    return partial(_library().roofline_read, _buffer(nbytes), nbytes, repeats, threads), float(nbytes * repeats)


def int8_products(threads: int) -> tuple[Callable[[], object], float]:
    """A call that multiplies and adds int8 in registers, and its operations; 0 if it is not written for this one."""
    call = partial(_library().roofline_int8, INT8_REPEATS, threads)
    return call, float(call())
