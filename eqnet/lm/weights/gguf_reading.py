"""Transformers reads the configuration and the tokenizer of a GGUF file by the package gguf; this makes that fast.

Its reader takes each of some hundred thousand words of a vocabulary out of the mapped file as two arrays of numpy's
class for mapped files, which is slow to make. Plain arrays over the same memory say the same in a fifth of the time.
"""

from __future__ import annotations

import sys
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
    """The package's class, but for how numbers and arrays are taken out of the file."""
    from gguf import GGUFValueType

    class Reader(base):  # type: ignore[misc]
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: str | None = None) -> Any:
            order = self.byte_order if override_order is None else override_order
            end = offset + np.dtype(dtype).itemsize * int(count)
            found = self.data.view(np.ndarray)[offset:end].view(dtype)
            return found if order == "I" else found.view(found.dtype.newbyteorder(order))

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            """Size, parts, which of them are the values, types."""
            if raw_type != GGUFValueType.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            kind, length = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
            item, count, start = GGUFValueType(int(kind[0])), int(length[0]), orig_offs + 12
            types = [GGUFValueType.ARRAY] + [item] * bool(count)
            if item == GGUFValueType.STRING:
                parts, size = self._strings(start, count)
                return 12 + size, [kind, length, *parts], list(range(3, 3 + 2 * count, 2)), types
            if item in self.gguf_scalar_to_np:
                values = self._get(start, self.gguf_scalar_to_np[item], count)
                if len(values) < count:
                    raise ValueError("the file ends within an array")
                return 12 + int(values.nbytes), [kind, length, *values.reshape(-1, 1)], list(range(2, 2 + count)), types
            return super()._get_field_parts(orig_offs, raw_type)

        def _strings(self, start: int, count: int) -> tuple[list[Any], int]:
            """Lengths and letters of so many strings in turn, and the bytes of all."""
            order: Any = "big" if (self.byte_order == "S") == (sys.byteorder == "little") else "little"
            content, plain, place = memoryview(self.data), self.data.view(np.ndarray), start
            parts: list[Any] = []
            for _ in range(count):
                letters = place + 8
                end = letters + int.from_bytes(content[place:letters], order)
                if end > len(content):
                    raise ValueError("the file ends within an array")
                parts += self._get(place, np.uint64), plain[letters:end]
                place = end
            return parts, place - start

    return Reader
