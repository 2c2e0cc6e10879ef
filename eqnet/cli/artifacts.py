"""Options of the verbs that take an artifact."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from eqnet.deploy.opening import CACHE
from eqnet.native import COMPUTE

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
_FAST = click.option(
    "--fast",
    is_flag=True,
    help="Let layers with inputs in floating point round them to int8, and ONNX Runtime do what else it does by "
    "default: faster and less exact. An integer program and TVM's libraries stay as they are.",
)
_COMPUTE = click.option(
    "--compute",
    type=click.Choice(list(COMPUTE)),
    default="float",
    show_default=True,
    help="How layers with inputs in floating point multiply; int8 is --fast.",
)


def artifact_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--task`` and ``--cache``; ``--fast`` and ``--compute`` as the one argument ``exact``."""

    @functools.wraps(command)
    def merged(*arguments: Any, fast: bool, compute: str, **options: Any) -> Any:
        return command(*arguments, exact=not fast and compute == "float", **options)

    return _TASK(_CACHE(_FAST(_COMPUTE(merged))))
