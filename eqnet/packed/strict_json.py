"""JSON that others may have tampered with: it is read only if it can mean one thing."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from eqnet.errors import RunError

MAX_BYTES = 16_000_000
"""Longest JSON text that is written or read; the objects of a longer one could fill the memory."""


def parse(text: bytes, where: Path) -> dict[str, Any]:
    """The object in ``text``.

    Args:
        text: UTF-8.
        where: file that the errors name.

    Raises:
        RunError: the text is too long, no JSON, no object, nested too deep, has a key twice, a number that is not
            finite or a character that is none.
    """
    if len(text) > MAX_BYTES:
        raise RunError(f"{where}: {len(text)} bytes of JSON; at most {MAX_BYTES} are read, so the file is damaged")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
        canonical(value)  # fails for what JSON's grammar lets through: 1e999, NaN, halves of surrogate pairs
    except (ValueError, RecursionError) as e:
        reason = "nested too deep" if isinstance(e, RecursionError) else str(e)
        raise RunError(f"{where}: is not JSON that can be read ({reason}); the file is damaged") from e
    if not isinstance(value, dict):
        raise RunError(f"{where}: holds no JSON object but a {type(value).__name__}; the file is damaged")
    return value


def canonical(value: object) -> bytes:
    """One text for equal values, whatever the order of their keys.

    Raises:
        ValueError: a number is not finite, or a character is none.
        TypeError: the value has no JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def checksum(value: object) -> str:
    """CRC-32 of ``canonical(value)``, 8 hexadecimal digits."""
    return f"{zlib.crc32(canonical(value)):08x}"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} is there twice")
    return value
