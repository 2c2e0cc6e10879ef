"""What this machine can do at most, as calls to be timed beside others."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from eqnet import _kernels

MEMORY_BYTES = 256 << 20
"""More than a cache holds."""

CACHE_BYTES = 256 << 10
"""Of each thread: what the second cache of a core holds."""

AT_ONCE = 64 << 20
"""Bytes that a call reads in all, so that starting its threads does not count."""

REPEATS = 1_000_000
"""Rounds of products in registers: some milliseconds."""


@dataclass(frozen=True)
class Limit:
    """One limit of the machine.

    Attributes:
        call: does ``amount`` of it.
        amount: bytes or operations of one call.
    """

    call: Callable[[], object]
    amount: float

    def rate(self, seconds: float) -> float:
        """Bytes or operations in a second, if a call takes ``seconds``."""
        return self.amount / seconds


LIMITS = {
    "memory": "reading memory, bytes",
    "cache": "reading a cache, bytes",
    "int8": "products in int8, operations",
    "float": "products in fp32, operations",
}
"""By name, what is measured and what is counted; a product and its addition are two operations."""


def limits(count: int) -> dict[str, Limit]:
    """The limits by their names in ``LIMITS``, each on ``count`` threads.

    The calls use the instructions that the kernels use; EQNET_CPU restricts both.
    """
    return {
        "memory": _reading(MEMORY_BYTES, count),
        "cache": _reading(CACHE_BYTES * count, count),
        "int8": _multiplying(_kernels.multiply_int8, count),
        "float": _multiplying(_kernels.multiply_float, count),
    }


def _reading(size: int, count: int) -> Limit:
    memory, repeats = _filled(size), -(-AT_ONCE // size)
    return Limit(partial(_read, memory, repeats, count), float(size * repeats))


def _multiplying(multiply: Callable[[int, int], float], count: int) -> Limit:
    call = partial(multiply, REPEATS, count)
    return Limit(call, call())


def _filled(size: int) -> Tensor:
    """uint8 [size], aligned to a page, and in large pages where the system has them."""
    memory = mmap.mmap(-1, size) if not hasattr(mmap, "MAP_PRIVATE") else _private(size)
    tensor = torch.frombuffer(memory, dtype=torch.uint8)
    return tensor.fill_(1)


def _private(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _read(memory: Tensor, repeats: int, count: int) -> None:
    _kernels.read_memory(memory.data_ptr(), memory.nbytes, repeats, count)
