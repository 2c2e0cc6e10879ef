"""Transformers reads the configuration and the tokenizer of a GGUF file by the package gguf; this makes that fast.

Its reader takes each of some hundred thousand words of a vocabulary out of the mapped file as two arrays of numpy's
class for mapped files, which is slow to make. Plain arrays over the same memory say the same in a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def fast_reading() -> Iterator[None]:
    """While it lasts, transformers reads GGUF files by ``_reader``; nothing changes where gguf is not installed."""
    try:
        import gguf
    except ImportError:
        yield
        return
    theirs = gguf.GGUFReader
    gguf.GGUFReader = _reader(theirs)
    try:
        yield
    finally:
        gguf.GGUFReader = theirs


def _reader(base: Any) -> Any:
    """The package's class, but for how numbers are taken out of the file."""

    class Reader(base):  # type: ignore[misc]
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: str | None = None) -> Any:
            order = self.byte_order if override_order is None else override_order
            end = offset + np.dtype(dtype).itemsize * int(count)
            found = self.data.view(np.ndarray)[offset:end].view(dtype)
            return found if order == "I" else found.view(found.dtype.newbyteorder(order))

    return Reader
