"""Where a packed model can be exported to; one row a destination."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from eqnet.errors import InputError

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel


@dataclass(frozen=True)
class Destination:
    """A form in which a packed model is written.

    Attributes:
        name: as it is given to ``--to``.
        title: one line for people.
        write: from the model and a folder to the files in it.
    """

    name: str
    title: str
    write: Callable[[PackedModel, Path], None]


def _artifact(packed: PackedModel, folder: Path) -> None:
    packed.save(folder)


DESTINATIONS: Mapping[str, Destination] = MappingProxyType(
    {row.name: row for row in (Destination("eqnet", "eqnet's own artifact: config.json and safetensors", _artifact),)}
)


def destination(name: str) -> Destination:
    """The destination of that name; raises InputError, with those that there are, if there is none."""
    if name not in DESTINATIONS:
        close = difflib.get_close_matches(name, DESTINATIONS, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"--to {name}: there is no such destination; {guess}there are: {', '.join(DESTINATIONS)}")
    return DESTINATIONS[name]
