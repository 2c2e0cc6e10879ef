"""One safetensors file: written in one pass, mapped when it is read, every tensor with its checksum.

    8 bytes       length of the header, little-endian
    header        JSON: {"__metadata__": {...}, name: {"dtype", "shape", "data_offsets"}, ...}, then spaces up to 8 n
    data          the tensors, without a gap; wide types come first, so that each is aligned

The CRC-32 of the tensors are in the file's own ``__metadata__``, 8 hexadecimal digits each in the order of the data:
they travel with what they guard, and take 8 bytes where an entry of its own, with the name, would take 60.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from eqnet import _kernels
from eqnet.errors import InputError, RunError
from eqnet.native import address
from eqnet.packed import strict_json
from eqnet.packed.layout import SIZES, Spec
from eqnet.packed.mapping import drop, mapped

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "F32": "float32",
    "I32": "int32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""PyTorch's names of types, by safetensors' names."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_METADATA = "__metadata__"
_PREFIX = 8  # bytes that hold the length of the header
_MAX_DIMS, _MAX_SIZE = 64, 2**60  # well inside what torch can count
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # in a zip archive, and by themselves
_CHECKSUMS = re.compile("(?:[0-9a-f]{8})*")


@dataclass(frozen=True)
class FileRecord:
    """What tells a file from every other one: its length, and the CRC-32 of its header (and so of its checksums)."""

    nbytes: int
    header_crc32: str


def spec_of(name: str, tensor: Tensor) -> Spec:
    """The spec of ``tensor``.

    Raises:
        InputError: it has no data, or a type or name that cannot be stored.
    """
    if not name or name == _METADATA or not name.isprintable():
        raise InputError(f"{name!r} cannot be the name of a stored tensor")
    dtype, layout = (str(value).removeprefix("torch.") for value in (tensor.dtype, tensor.layout))
    if dtype not in _NAMES or layout != "strided" or tensor.is_meta:
        raise InputError(
            f"tensor {name!r}: cannot be stored ({dtype}, {layout}, on {tensor.device}); "
            f"give a dense tensor with data, of {', '.join(_NAMES)}"
        )
    return Spec(dtype, tuple(tensor.shape))


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> FileRecord:
    """Writes ``tensors`` into a new file; holds a copy of one of them at most.

    Raises:
        InputError: a tensor has no data or a type or name that cannot be stored.
        OSError: the file cannot be written.
    """
    import torch

    specs = {name: spec_of(name, tensors[name]) for name in tensors}
    names = sorted(specs, key=lambda name: (-SIZES[specs[name].dtype], name))
    header = _header(names, specs, [0] * len(names))
    if len(header) > strict_json.MAX_BYTES:
        raise InputError(
            f"{path.name}: a header for {len(names)} tensors takes {len(header)} bytes; use smaller shards"
        )
    checksums = []
    with path.open("wb") as file:
        file.write(header)  # its checksums are still to come, and take as many bytes
        for name in names:
            # A tensor on another device or with gaps is copied, and only here.
            data = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            checksums.append(zlib.crc32(data))
            file.write(data)
        header = _header(names, specs, checksums)
        file.seek(0)
        file.write(header)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(len(header) + sum(spec.nbytes for spec in specs.values()), f"{zlib.crc32(header):08x}")


class Shard:
    """A safetensors file that ``write_shard`` wrote, mapped into memory; its header is checked, its data not yet.

    The mapping is private: writing to a tensor changes neither the file nor what others read.

    Args:
        path: of the file, for messages.
        file: open for reading; not needed any more once this returns.
        record: what the file must be.

    Attributes:
        path: of the file.
        specs: of the tensors, by name, in the order of the data.
        header_bytes: what comes before the data.

    Raises:
        RunError: the file is another one, or its header does not describe the data that follow.
    """

    def __init__(self, path: Path, file: BinaryIO, record: FileRecord) -> None:
        self.path = path
        try:
            header = _read_header(path, file, record)
            self._map = mapped(file, record.nbytes)
        except OSError as e:
            raise RunError(f"{path}: cannot be read ({e.strerror or e})") from e
        self.specs, self._starts, self._checksums = _parse_header(path, header, record.nbytes)
        self.header_bytes = len(header)
        self._checked: set[str] = set()

    def data(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor, on the mapped memory; checked the first time.

        Raises:
            RunError: the bytes are not those that were written.
        """
        spec, start = self.specs[name], self._starts[name]
        data = np.frombuffer(self._map, np.uint8, spec.nbytes, start)
        if name not in self._checked:
            found = f"{_kernels.crc32(address(data), spec.nbytes):08x}"
            if found != self._checksums[name]:
                raise RunError(
                    f"{self.path}: tensor {name!r} is damaged (CRC-32 {found}, written as {self._checksums[name]}); "
                    "copy the file anew or export again"
                )
            if spec.dtype == "bool" and spec.nbytes and int(data.max()) > 1:
                raise RunError(f"{self.path}: tensor {name!r} has bytes that are neither true nor false; export again")
            self._checked.add(name)
        return data

    def trust(self, name: str) -> None:
        """Takes the data of a tensor as checked, until it is released."""
        self._checked.add(name)

    def release(self, name: str) -> None:
        """Gives the memory of a tensor back; whoever still reads it gets it from the file, unchecked.

        The pages that it shares with its neighbours stay. What was written to the tensor is lost.
        """
        self._checked.discard(name)
        drop(self._map, self._starts[name], self.specs[name].nbytes)


def _header(names: Sequence[str], specs: Mapping[str, Spec], checksums: Sequence[int]) -> bytes:
    """The file up to its data, a multiple of 8 bytes."""
    entries: dict[str, Any] = {_METADATA: {"format": "pt", "crc32": "".join(f"{crc:08x}" for crc in checksums)}}
    start = 0
    for name in names:
        spec = specs[name]
        stop = start + spec.nbytes
        entries[name] = {"dtype": _NAMES[spec.dtype], "shape": spec.shape, "data_offsets": (start, stop)}
        start = stop
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_PREFIX, "little") + text


def _read_header(path: Path, file: BinaryIO, record: FileRecord) -> bytes:
    """The file up to its data; the file has the size, and these bytes the checksum, of the record."""
    found = os.fstat(file.fileno()).st_size
    prefix = file.read(_PREFIX)
    length = int.from_bytes(prefix, "little")
    if prefix.startswith(_PICKLES) and length > strict_json.MAX_BYTES:  # a short header may begin with such bytes, too
        raise RunError(f"{path}: is a pickle under another name; eqnet reads no pickles, as they can run any code")
    if found != record.nbytes:
        how = "empty" if not found else "truncated" if found < record.nbytes else "too long"
        raise RunError(
            f"{path}: is {how} ({found} bytes, written as {record.nbytes}); copy the file anew or export again"
        )
    if len(prefix) < _PREFIX or length > found - _PREFIX or length > strict_json.MAX_BYTES or length % _PREFIX:
        raise RunError(
            f"{path}: claims a header of {length} bytes in a file of {found} (at most {strict_json.MAX_BYTES} are "
            "read); it is damaged or no safetensors file"
        )
    header = prefix + file.read(length)
    if f"{zlib.crc32(header):08x}" != record.header_crc32:
        raise RunError(
            f"{path}: its header is damaged or is another file's (CRC-32 {zlib.crc32(header):08x}, written as "
            f"{record.header_crc32}); copy the whole folder anew or export again"
        )
    return header


def _parse_header(path: Path, header: bytes, found: int) -> tuple[dict[str, Spec], dict[str, int], dict[str, str]]:
    """Specs, places in the file and checksums by name, in the order of the data."""
    entries = strict_json.parse(header[_PREFIX:], path)
    metadata = entries.pop(_METADATA, None)
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise RunError(f"{path}: its metadata are no texts by name; the file is damaged")
    checksums = metadata.get("crc32", "")
    if not _CHECKSUMS.fullmatch(checksums) or len(checksums) != 8 * len(entries):
        raise RunError(f"{path}: has no checksums of its {len(entries)} tensors; it was not written by eqnet")
    parsed = {name: _parse_entry(path, name, entry) for name, entry in entries.items()}
    specs, starts, crcs = {}, {}, {}
    position = len(header)
    for index, name in enumerate(sorted(parsed, key=lambda name: parsed[name][1:])):
        spec, begin, end = parsed[name]
        if len(header) + begin != position or end - begin != spec.nbytes or begin % SIZES[spec.dtype]:
            raise RunError(
                f"{path}: tensor {name!r}: data_offsets {begin} to {end} do not fit; {spec} "
                f"takes {spec.nbytes} bytes and would begin at {position - len(header)}"
            )
        specs[name], starts[name], crcs[name] = spec, position, checksums[8 * index : 8 * index + 8]
        position += spec.nbytes
    if position != found:
        raise RunError(f"{path}: its tensors end at byte {position} of {found}; the file is damaged")
    return specs, starts, crcs


def _parse_entry(path: Path, name: str, entry: object) -> tuple[Spec, int, int]:
    """Type and shape of a tensor, and where its data begin and end."""
    if not name.isprintable():
        raise RunError(f"{path}: {name!r} cannot be the name of a tensor; the file is damaged")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise RunError(f"{path}: tensor {name!r}: expected dtype, shape and data_offsets; the file is damaged")
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise RunError(f"{path}: tensor {name!r}: {brief(entry['dtype'])} is none of the types {', '.join(DTYPES)}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise RunError(f"{path}: tensor {name!r}: expected two data_offsets; found {brief(offsets)}")
    # Torch multiplies the sizes even if one of them is 0.
    if not _are_sizes(shape) or len(shape) > _MAX_DIMS or math.prod(max(size, 1) for size in shape) > _MAX_SIZE:
        raise RunError(f"{path}: tensor {name!r}: {brief(shape)} cannot be its shape; the file is damaged")
    return Spec(dtype, tuple(shape)), offsets[0], offsets[1]


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size <= _MAX_SIZE for size in value)
