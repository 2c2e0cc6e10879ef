"""What the verbs share in talking to people and programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

Report = Callable[[str, int, int], None]
"""Told (stage, done, total) as work goes on."""

_UNBOUNDED = 1000
"""Columns of what is no terminal; tables take what they need of them, so that no cell is broken in a file or a pipe."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print figures as JSON instead of tables.")


def print_json(data: Any) -> None:
    """Writes one JSON document to standard output."""
    click.echo(json.dumps(data, indent=2))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Writes a table to standard output; every column but the first is aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: names of files and layers are no markup
    Console(width=None if sys.stdout.isatty() else _UNBOUNDED).print(table)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Report]:
    """A bar for each stage and the library's log, on standard error, so that standard output stays clean.

    Nothing at all if quiet.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bars = Progress(
        TextColumn("{task.description:<30}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    stages: dict[str, Any] = {}
    with bars, nullcontext() if quiet else _logging_to(bars.console):

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        yield report


@contextmanager
def _logging_to(console: Console) -> Iterator[None]:
    """What the library logs (the training of a built-in task's network) is printed above the bars."""
    from rich.logging import RichHandler

    logger = logging.getLogger("eqnet")
    handler = RichHandler(console=console, show_time=False, show_path=False)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def kilobytes(size: int) -> str:
    return f"{size / 1000:,.1f} kB"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"
