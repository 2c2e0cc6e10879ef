"""The targets that come with eqnet, one TOML table each."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from eqnet.errors import InputError
from eqnet.target import Target


def built_in() -> list[Target]:
    """Every target that comes with eqnet, by name."""
    folder = Path(str(resources.files(__name__)))
    return [Target.load(path) for path in sorted(folder.glob("*.toml"))]


def load_target(name: str) -> Target:
    """A built-in target by its name, or one's own from the path of a TOML file.

    Raises:
        InputError: there is no such target; the message lists those that there are.
    """
    if name.endswith(".toml"):
        return Target.load(name)
    targets = {target.name: target for target in built_in()}
    if name not in targets:
        close = difflib.get_close_matches(name, targets, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise InputError(f"unknown target '{name}'; {hint}there are {', '.join(targets)}, or give a .toml file")
    return targets[name]
