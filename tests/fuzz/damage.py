"""Ways to damage an artifact: blindly (bits, cuts, noise), or with knowledge of the format (its JSON)."""

from __future__ import annotations

import json
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Files = dict[str, bytes]
"""Contents by name."""

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 8, 255, 2**31, 2**32, 2**62, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308),
    *("", "a", "U8", "F16", "F64", "BOOL", "C64", "F8_E4M3", "F4", "..", "../x", "/etc/passwd", "\x00", "\x1b[2J"),
    *("model.safetensors", "model-00001-of-00002.safetensors", "ÿ", "0" * 8, "f" * 24, "eqnet", "gptq", "𝄞"),
    *([], {}, [0], [0, 0], [0, 1], [1, 0], [2**62, 4, 0], [1] * 65, [[]], [None], [[0]], {"": {}}, {"a": 1}),
]
"""What a value in the JSON is replaced by."""


def damaged(draw: random.Random, sound: list[Files]) -> tuple[Files, bool]:
    """One of the sound artifacts, damaged.

    Returns:
        Its files, and whether the checksums were made right again, so that what they guard meets damage, too.
    """
    files = dict(draw.choice(sound))
    for _ in range(draw.choice((1, 1, 2, 4))):
        if draw.random() < 0.06:
            other = draw.choice(sound)
            name = draw.choice(list(other))
            files[name] = other[name]
        else:
            draw.choice(DAMAGES)(draw, files)
    return files, draw.random() < 0.7 and _seal(draw, files)


def read(folder: Path) -> Files:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def put(folder: Path, files: Files) -> None:
    """Makes ``files`` the files of a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _flip(draw: random.Random, files: Files) -> None:
    name, data = _pick(draw, files)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    files[name] = bytes(data)


def _cut(draw: random.Random, files: Files) -> None:
    name, data = _pick(draw, files)
    files[name] = bytes(data[: draw.randrange(len(data) + 1)])


def _lengthen(draw: random.Random, files: Files) -> None:
    name, data = _pick(draw, files)
    files[name] = bytes(data) + draw.randbytes(draw.choice((1, 8, 4096)))


def _overwrite(draw: random.Random, files: Files) -> None:
    name, data = _pick(draw, files)
    start = draw.randrange(len(data) + 1)
    data[start : start + draw.randrange(9)] = draw.randbytes(draw.randrange(9))
    files[name] = bytes(data)


def _move_a_piece(draw: random.Random, files: Files) -> None:
    name, data = _pick(draw, files)
    start = draw.randrange(len(data) + 1)
    piece = data[start : start + draw.randrange(64)]
    to = draw.randrange(len(data) + 1)
    data[to : to + draw.choice((0, len(piece)))] = piece
    files[name] = bytes(data)


def _replace_by_noise(draw: random.Random, files: Files) -> None:
    name, _ = _pick(draw, files)
    files[name] = draw.randbytes(draw.choice((0, 1, 7, 8, 9, 300)))


def _swap(draw: random.Random, files: Files) -> None:
    a, b = draw.choice(list(files)), draw.choice(list(files))
    files[a], files[b] = files[b], files[a]


def _remove(draw: random.Random, files: Files) -> None:
    if len(files) > 1:
        del files[draw.choice(list(files))]


def _set_length(draw: random.Random, files: Files) -> None:
    """Lies about the length of a header."""
    name, data = _pick(draw, files, ".safetensors")
    data[:8] = draw.choice((0, 1, 2, 8, max(8, len(data)) - 8, len(data), 2**31, 2**63, 2**64 - 1)).to_bytes(
        8, "little"
    )
    files[name] = bytes(data)


def _edit_json(draw: random.Random, files: Files) -> None:
    """Changes a value, a key or the shape of the JSON of a file."""
    name, data = _pick(draw, files)
    start, stop = (0, len(data)) if name.endswith(".json") else (8, 8 + int.from_bytes(data[:8], "little"))
    try:
        root = json.loads(bytes(data[start:stop]))
    except (ValueError, RecursionError):
        return
    _edit(draw, root)
    text = json.dumps(root, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    text = draw.choice(SPELLINGS)(text)
    if start:
        text += b" " * (-len(text) % 8)
        files[name] = len(text).to_bytes(8, "little") + text + bytes(data[stop:])
    else:
        files[name] = text


SPELLINGS: list[Callable[[bytes], bytes]] = [
    *[lambda text: text] * 12,
    lambda text: text.replace(b"}", b',"dtype":"U8"}', 1),  # a key twice
    lambda text: text.replace(b"1", b"1" * 5000, 1),
    lambda text: text.replace(b"0", b"NaN", 1),
    lambda text: text.replace(b"0", b"1e999", 1),
    lambda text: text.replace(b"[", b"[" * 100_000, 1),
    lambda text: text.replace(b'"a', b'"\\udc00', 1),
    lambda text: b"\xef\xbb\xbf" + text,
]
"""Other ways to write JSON, most of them wrong."""


def _edit(draw: random.Random, root: Any) -> None:
    places: list[tuple[Any, Any]] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    if not places:
        return
    node, key = draw.choice(places)
    what = draw.randrange(6)
    if what == 0:
        del node[key]
    elif what == 1 and isinstance(node, dict):
        node[str(draw.choice(VALUES))] = node.pop(key)
    elif what == 2 and isinstance(node[key], int):
        node[key] += draw.choice((-8, -1, 1, 2, 8))
    elif what == 3:
        other, its = draw.choice(places)
        node[key] = json.loads(json.dumps(other[its]))
    else:
        node[key] = draw.choice(VALUES)


DAMAGES: list[Callable[[random.Random, Files], None]] = [
    *(_flip, _cut, _lengthen, _overwrite, _move_a_piece, _replace_by_noise, _swap, _remove, _set_length),
    *[_edit_json] * 8,
]


def _pick(draw: random.Random, files: Files, suffix: str = "") -> tuple[str, bytearray]:
    name = draw.choice([name for name in files if name.endswith(suffix)] or list(files))
    return name, bytearray(files[name])


def _seal(draw: random.Random, files: Files) -> bool:
    """Makes the checksums right, as far as what is left of the files lets it; whether it changed anything."""
    try:
        config = json.loads(files["config.json"])
        own = config["quantization_config"]
        for name in own["files"]:
            if draw.random() < 0.8:
                files[name] = _with_checksums(files[name])
            data = files[name]
            header = data[: 8 + int.from_bytes(data[:8], "little")]
            own["files"][name] = [len(data), f"{zlib.crc32(header):08x}"]
        own.pop("crc32", None)
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        own["crc32"] = f"{zlib.crc32(text.encode()):08x}"
        files["config.json"] = json.dumps(config).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _with_checksums(data: bytes) -> bytes:
    """A shard whose header has the checksums of what its entries, true or not, point to."""
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        entries = json.loads(data[8:start])
        tensors = sorted(
            (entry["data_offsets"] for name, entry in entries.items() if name != "__metadata__"),
            key=lambda offsets: (offsets[0], offsets[1]),
        )
        entries["__metadata__"]["crc32"] = "".join(
            f"{zlib.crc32(data[start + begin : start + end]):08x}" for begin, end in tensors
        )
        text = json.dumps(entries).encode()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return data
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]
