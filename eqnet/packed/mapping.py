"""Files as memory: read when they are used, and given back when they are not needed any more."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, BinaryIO
from weakref import WeakValueDictionary

import numpy as np

from eqnet.native import address

if TYPE_CHECKING:
    from torch import Tensor

_mappings: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
"""Those that something still refers to, by the address of their first byte."""


def mapped(file: BinaryIO, nbytes: int) -> mmap.mmap:
    """The first ``nbytes`` (at least 1) bytes of a file, privately: what is written there stays in this process.

    Raises:
        OSError: the file cannot be mapped.
    """
    mapping = mmap.mmap(file.fileno(), nbytes, access=mmap.ACCESS_COPY)
    _mappings[address(np.frombuffer(mapping, np.uint8))] = mapping
    return mapping


def release(tensor: Tensor) -> None:
    """Gives back the memory of a tensor that is part of a mapped file, e.g. once its content is converted.

    Whoever still uses it, or a tensor that shares its storage, gets the content from the file again; what was written
    to it is lost. Any other tensor stays as it is.
    """
    storage = tensor.untyped_storage()
    start, nbytes = storage.data_ptr(), storage.nbytes()
    for first, mapping in list(_mappings.items()):
        if first <= start and start + nbytes <= first + len(mapping):
            drop(mapping, start - first, nbytes)


def drop(mapping: mmap.mmap, start: int, nbytes: int) -> None:
    """Gives back the pages that lie within ``nbytes`` bytes from ``start``; those shared with neighbours stay."""
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (start + nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < stop and hasattr(mmap, "MADV_DONTNEED"):  # Windows has none, and trims by itself
        mapping.madvise(mmap.MADV_DONTNEED, first, stop - first)
