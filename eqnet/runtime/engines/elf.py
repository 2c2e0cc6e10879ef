"""Data in a compiled library, read from its file: nothing of it is loaded or run.

A file of 64 bits: a header of 64 bytes, with the place of a table of sections, 64 bytes each. The section of type
11 lists the symbols that the library exports, 24 bytes each; its link is the section of their names.
"""

from __future__ import annotations

import mmap
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

from eqnet.errors import RunError

_MACHINES = {0x03: "x86", 0x28: "arm", 0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv64"}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_EXPORTS, _NO_DATA = 11, 8
_64_BITS_LITTLE_ENDIAN = b"\x7fELF\x02\x01"


@dataclass(frozen=True)
class Library:
    """What a compiled library says of itself.

    Attributes:
        machine: that it is for, e.g. ``x86_64``.
        text: the zero-terminated text that the symbol holds; None if there is no such symbol.
    """

    machine: str
    text: bytes | None


def read(path: Path, symbol: str) -> Library:
    """Reads a library's machine and the text of one of its symbols.

    Raises:
        RunError: the file is missing, damaged, or no ELF library of 64 bits.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:6] != _64_BITS_LITTLE_ENDIAN:
                raise RunError(f"{path}: is no ELF library of 64 bits, which TVM's are on Linux; export it again")
            return _read(data, symbol.encode())
    except OSError as e:
        missing = "there is no such file" if isinstance(e, FileNotFoundError) else f"cannot be read ({e.strerror})"
        raise RunError(f"{path}: {missing}") from e
    except (struct.error, ValueError, IndexError) as e:  # the second is that of mapping an empty file
        raise RunError(f"{path}: is no compiled library, or only a part of one; export it again") from e


def this_machine() -> str:
    """The name of this machine, as ``Library.machine`` has it."""
    name = platform.machine().lower()
    return _ALIASES.get(name, name)


def _read(data: mmap.mmap, symbol: bytes) -> Library:
    header = _HEADER.unpack_from(data)
    place, size, count = header[6], header[11], header[12]
    sections = [_SECTION.unpack_from(data, place + i * size) for i in range(count)]
    machine = _MACHINES.get(header[2], f"machine {header[2]}")
    for section in sections:
        if section[1] != _EXPORTS:
            continue
        names = sections[section[6]][4]
        for offset in range(section[4], section[4] + section[5], _SYMBOL.size):
            name, _, _, home, address, _ = _SYMBOL.unpack_from(data, offset)
            if _text(data, names + name) == symbol and 0 < home < count and sections[home][1] != _NO_DATA:
                return Library(machine, _text(data, sections[home][4] + address - sections[home][3]))
    return Library(machine, None)


def _text(data: mmap.mmap, start: int) -> bytes:
    end = data.find(b"\0", start)
    if not 0 <= start <= end:
        raise IndexError(start)
    return data[start:end]
