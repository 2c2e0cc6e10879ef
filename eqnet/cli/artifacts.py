"""Options of the verbs that take an artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from eqnet.deploy.opening import CACHE
from eqnet.ops.linear import COMPUTE

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


_COMPUTE = click.option(
    "--compute",
    type=click.Choice(list(COMPUTE)),
    default="float",
    show_default=True,
    help="How layers with inputs in floating point multiply: int8 is faster and less exact. An integer program does "
    "without.",
)


def artifact_options(command: F) -> F:
    """``--task``, ``--cache`` and ``--compute``."""
    return _TASK(_CACHE(_COMPUTE(command)))
