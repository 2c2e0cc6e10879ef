"""What a GGUF file says of itself: its architecture, and where each tensor is.

    "GGUF"  version  tensors  entries        4 bytes, u32, u64, u64; little-endian throughout
    entries of (key, type, value)            a string is its length (u64) and UTF-8; an array is type, length, items
    tensors of (name, sizes, type, offset)   the fastest-moving size first; offsets count from the data
    data                                     at the next multiple of general.alignment (32)

The package gguf reads the same, and makes an array for every string of the vocabulary on the way: seconds, and
hundreds of megabytes, for what is not needed here.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from eqnet.errors import InputError, RunError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor is, and how it is stored.

    Attributes:
        shape: with the size of a row last, as torch has it.
        kind: number of ggml's type.
        offset: from the start of the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        entries: keys and values; arrays are left out.
        tensors: by name.
        data: the file, mapped for reading.
    """

    def __init__(self, path: Path) -> None:
        """Reads it.

        Raises:
            InputError: the file is one of several parts.
            RunError: it is no GGUF file, or a damaged one.
        """
        try:
            with path.open("rb") as file:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._position = 0
            magic = self.data[:4]
            self._skip(4)
            version, tensors, entries = self._take("<IQQ")
            if magic != b"GGUF" or version not in (2, 3):
                raise ValueError(f"it starts with {magic!r}, version {version}")
            self.entries: dict[str, object] = {}
            for _ in range(entries):
                key = self._string()
                value = self._value(*self._take("<I"))
                if value is not None:
                    self.entries[key] = value
            found = [self._tensor() for _ in range(tensors)]
            start = self._aligned()
        except (OSError, ValueError, KeyError, struct.error) as e:
            raise RunError(f"{path}: is no GGUF file, or a damaged one ({e}); copy it anew") from e
        if self.entries.get("split.count", 0) not in (0, 1):
            raise InputError(
                f"{path}: is one of {self.entries['split.count']} parts; join them first (llama-gguf-split --merge)"
            )
        self.tensors = {name: GgufTensor(shape, kind, start + offset) for name, shape, kind, offset in found}

    def _take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from(layout, self.data, self._position)
        self._position += struct.calcsize(layout)
        return values

    def _skip(self, nbytes: int) -> None:
        self._position += nbytes
        if self._position > len(self.data):
            raise ValueError("it ends too early")

    def _string(self) -> str:
        (length,) = self._take("<Q")
        start = self._position
        self._skip(length)
        return self.data[start : self._position].decode("utf-8")

    def _value(self, kind: int) -> object:
        """The value at the position, which moves behind it; None for an array."""
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._take(_SCALARS[kind])[0]
        item, length = self._take("<IQ")
        if item in _SCALARS:
            self._skip(length * struct.calcsize(_SCALARS[item]))
        elif item == _STRING:
            for _ in range(length):
                self._skip(self._take("<Q")[0])
        else:
            for _ in range(length):
                self._value(item)
        return None

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dims,) = self._take("<I")
        if dims > _MAX_DIMS:
            raise ValueError(f"tensor {name!r} has {dims} dimensions")
        shape = self._take(f"<{dims}Q")[::-1]
        kind, offset = self._take("<IQ")
        return name, shape, kind, offset

    def _aligned(self) -> int:
        alignment = self.entries.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"its alignment is {alignment!r}")
        return -(-self._position // alignment) * alignment
