"""One time with its noise, and the file that keeps what was timed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eqnet.bench.timing import Times
from eqnet.errors import RunError
from eqnet.files import write_atomically

VERSION = 1
"""Of the layout of the file."""

_SECOND = 10**9


@dataclass(frozen=True)
class Timing:
    """What many calls took, in nanoseconds.

    Attributes:
        median: half of the calls took longer.
        low, high: between them lies the middle half of the calls.
    """

    median: int
    low: int
    high: int

    @property
    def noise(self) -> int:
        """How far calls lie apart: from ``low`` to ``high``."""
        return self.high - self.low

    @classmethod
    def of(cls, times: Times) -> Timing:
        """The quartiles of measured calls."""
        return cls(*(round(_SECOND * times.percentile(share)) for share in (50, 25, 75)))


class Timings:
    """Timings by what was timed where, a text; kept in a JSON file unless there is none.

    Args:
        path: of the file, which need not exist; None keeps nothing.

    Raises:
        RunError: the file is damaged, or of a newer version.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Timing] = _read(path) if path is not None and path.exists() else {}

    def get(self, key: str) -> Timing | None:
        """The timing of ``key``; None if it was not taken."""
        return self._known.get(key)

    def add(self, timings: Mapping[str, Timing]) -> None:
        """Keeps timings; those that are there already stay.

        Raises:
            RunError: the file cannot be written.
        """
        self._known = {**timings, **self._known}
        if self._path is not None:
            kept = {key: [t.median, t.low, t.high] for key, t in sorted(self._known.items())}
            write_atomically(self._path, json.dumps({"version": VERSION, "nanoseconds": kept}, indent=1) + "\n")


def _read(path: Path) -> dict[str, Timing]:
    remedy = "remove it, and the times are measured again"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise RunError(f"{path}: cannot be read as times ({e}); {remedy}") from e
    match data:
        case {"version": int(version)} if version > VERSION:
            raise RunError(f"{path}: was written by a newer eqnet (layout {version}, not {VERSION}); update eqnet")
        case {"version": int(), "nanoseconds": dict(kept)} if all(map(_is_timing, kept.values())):
            return {key: Timing(*value) for key, value in kept.items()}
    raise RunError(f"{path}: holds no times of networks, each as median, low and high; {remedy}")


def _is_timing(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 3 and all(type(x) is int for x in value)
        and 0 < value[1] <= value[0] <= value[2]
    )  # fmt: skip
