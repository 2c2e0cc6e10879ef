"""Options that several verbs share, and the table that ``--config`` reads them from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from eqnet.choices import PRESETS
from eqnet.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

F = TypeVar("F", bound=Callable[..., Any])


def _read_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:  # the latter if it is no TOML, or no text
        raise InputError(f"{path}: cannot be read as TOML ({e})") from e
    known = {
        option.removeprefix("--"): parameter
        for parameter in context.command.params
        for option in parameter.opts
        if option.startswith("--") and parameter.name not in ("config", "help")
    }
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise InputError(f"{path}: unknown option '{unknown[0]}'; there are {', '.join(sorted(known))}")
    context.default_map = {}
    for name, value in table.items():
        one_of_several = known[name].multiple and not isinstance(value, list)
        context.default_map[str(known[name].name)] = [value] if one_of_several else value


def config_option(command: F) -> F:
    """``--config FILE.toml``: options by their long names; the command line overrides them."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help='Read options from a TOML file, e.g. budget = ["4bit"]; the command line overrides it.',
    )(command)


_RUN_OPTIONS = (
    click.option(
        "--task",
        default="digits",
        show_default=True,
        help="digits, fashion-mnist, package.module:name or ./file.py:name.",
    ),
    click.option(
        "--space",
        default="default",
        show_default=True,
        help=f"Formats that layers may take: {', '.join(PRESETS)}, or fields like 'w=2-8:channel:sym a=8:asym'.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(min=0),
        help="Epochs of supernet training; 0 only calibrates the ranges.  [default: the task's own]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),  # what every library takes that draws
        default=0,
        show_default=True,
        help="Of everything that is drawn.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where to run; auto takes a GPU if there is one.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="Arithmetic of the training passes.",
    ),
    click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/TASK]"),
    click.option("--fresh", is_flag=True, help="Start over: forget what the folder holds."),
)


def run_options(command: F) -> F:
    """The options that say which supernet is meant and where its run lives."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return config_option(command)
