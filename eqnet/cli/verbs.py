"""The verbs of the command, each in a module that is imported when the verb is used: most of them take PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import click


class Verb(NamedTuple):
    """Where a verb is, and the first sentence of its help, which lists of verbs show without importing it."""

    module: str
    attribute: str
    summary: str


VERBS = {
    "bench": Verb(
        "bench",
        "bench",
        "Time an exported network, where it is a folder beside the same one in fp32, in turn.",
    ),
    "compare": Verb(
        "compare",
        "compare_command",
        "Compare two forms of one network on the task's test data, layer by layer where both show their layers.",
    ),
    "eval": Verb("eval", "evaluate", "Measure a network on the task's test data, or a language model on text."),
    "export": Verb("export", "export", "Pack a network of a run, and write it for where it will be used."),
    "generate": Verb("generate", "generate", "Let a language model go on from a prompt."),
    "import": Verb(
        "importing", "import_command", "Take over the INT4 or INT8 weights of GLM-130B or a ChatGLM as they are."
    ),
    "inspect": Verb("inspect", "inspect", "Show the layers of a network: formats, bits and bytes."),
    "run": Verb("run", "run", "Run an exported network on an array or an image."),
    "search": Verb("search", "search", "Find the best mixed precision under a budget."),
    "targets": Verb("targets", "targets", "Show the deployment targets, and the formats that each one runs."),
    "train": Verb("train", "train", "Make a task's model elastic and train the supernet."),
}
"""By the names that users type."""

_MARGIN = 6
"""Columns of a list of verbs that are neither name nor summary."""


class Verbs(click.Group):
    """The command with ``VERBS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb, imported now; None if there is no such one."""
        if cmd_name not in VERBS:
            return None
        verb = VERBS[cmd_name]
        module: Any = import_module(f"eqnet.cli.{verb.module}")
        command: click.Command = getattr(module, verb.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists names and summaries."""
        room = formatter.width - _MARGIN - max(map(len, VERBS))
        with formatter.section("Commands"):
            rows = [click.Command(name, help=verb.summary).get_short_help_str(room) for name, verb in VERBS.items()]
            formatter.write_dl(list(zip(VERBS, rows, strict=True)))
