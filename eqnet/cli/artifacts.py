"""Options of the verbs that take an artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from eqnet.deploy.opening import CACHE

F = TypeVar("F", bound=Callable[..., Any])

_TASK = click.option(
    "--task",
    help="The task that the artifact is of, if it is your own: ./file.py:name or package.module:name. Its code is run; "
    "code that only an artifact names never is.",
)
_CACHE = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=CACHE,
    show_default=True,
    help="Folder that the task may keep files in.",
)


def task_options(command: F) -> F:
    """``--task`` and ``--cache``."""
    return _TASK(_CACHE(command))
