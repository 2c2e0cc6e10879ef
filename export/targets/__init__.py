"""The targets that come with eqnet, one TOML table each."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from eqnet.errors import InputError
from eqnet.target import Target


def tables() -> dict[str, Path]:
    """The file of every target that comes with eqnet, by name."""
    folder = Path(str(resources.files(__name__)))
    return {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)}


def built_in() -> list[Target]:
    """Every target that comes with eqnet, by name."""
    return [Target.load(path) for path in tables().values()]


def table(name: str) -> Path:
    """The file of a built-in target by its name, or one's own TOML file.

    Raises:
        InputError: there is no such target; the message lists those that there are.
    """
    if name.endswith(".toml"):
        return Path(name)
    known = tables()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise InputError(f"unknown target '{name}'; {hint}there are {', '.join(known)}, or give a .toml file")
    return known[name]


def load_target(name: str) -> Target:
    """The target that ``table`` finds; raises InputError if there is none, or its table is wrong."""
    return Target.load(table(name))
