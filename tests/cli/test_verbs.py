"""The verbs, and that none of them is imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from eqnet.cli import cli
from eqnet.cli.verbs import VERBS
from tests.cli.command import Command

_IMPORTED = """
import sys
from eqnet.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({"torch", "transformers", "numpy", "rich"} & set(sys.modules)), file=sys.stderr)
"""


def imported(*arguments: str) -> str:
    """Names of large packages that a command imports."""
    ran = subprocess.run(
        [sys.executable, "-c", _IMPORTED, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.strip()


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("generate", "--help")], ids=" ".join)
def test_help_imports_no_large_package(arguments: tuple[str, ...]) -> None:
    assert imported(*arguments) == ""


@pytest.mark.parametrize("name", VERBS)
def test_summaries_are_those_of_the_verbs(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help is not None
    assert " ".join(command.help.split()).startswith(VERBS[name].summary)


def test_help_lists_every_verb(eqnet: Command) -> None:
    ended = eqnet("--help")
    assert ended.status == 0
    listed = ended.out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(VERBS)
    assert all(len(line) <= 110 for line in listed)


def test_what_is_no_verb_is_refused(eqnet: Command) -> None:
    ended = eqnet("gnerate")
    assert ended.status == 2
    assert "No such command 'gnerate'" in ended.err
