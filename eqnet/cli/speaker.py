"""Which process of a command talks: the only one, or the first of those that torchrun started."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eqnet.errors import EqnetError, InputError

if TYPE_CHECKING:
    from eqnet.lm.deployed import Deployed
    from eqnet.lm.parallel.group import Group

_GRACE = 1.0
"""Seconds for the first process to say what is wrong, before another ends and torchrun ends them all."""


class Speaker:
    """One process of a command that answers.

    Args:
        group: the processes that share the model; None if there is but this one.
    """

    def __init__(self, group: Group | None = None) -> None:
        self._group = group

    @property
    def speaks(self) -> bool:
        """Whether this process reads and prints."""
        return self._group is None or self._group.rank == 0

    @property
    def resumes(self) -> bool:
        """Whether a conversation goes on after Ctrl-C, which has cut an answer somewhere else in each process."""
        return self._group is None and sys.stdin.isatty()

    def open(self, path: Path, compute: str, threads: int | None, context: int | None) -> Deployed:
        """The model, or this process's part of it; see ``open_model``."""
        if self._group is None:
            from eqnet.lm.deployed import open_model

            return open_model(path, compute=compute, threads=threads, context=context)
        from eqnet.lm.parallel.opening import open_part

        return open_part(path, self._group, compute=compute, threads=threads, context=context)

    def shared(self, text: str | None) -> str | None:
        """What the first process was given, in every process."""
        return text if self._group is None else self._group.shared(text)

    def lines(self) -> Iterator[str]:
        """Lines of standard input, without empty ones, in every process; ends with the input, or at Ctrl-C."""
        while (line := self.shared(_read_line() if self.speaks else None)) is not None:
            if line.strip():
                yield line.strip()


@contextmanager
def speaking() -> Iterator[Speaker]:
    """The speaker of this process, joined with those that torchrun started beside it, if any."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Speaker()
        return
    from eqnet.lm.parallel.group import joined

    with joined() as group:
        try:
            yield Speaker(group)
        except EqnetError as e:
            if group.rank:
                time.sleep(_GRACE)
                sys.exit(e.exit_code)
            raise


def _read_line() -> str | None:
    """The next line, without its end; None at the end of the input."""
    try:
        if sys.stdin.isatty():
            click.echo("> ", nl=False)
        data = sys.stdin.buffer.readline()
        return data.decode("utf-8").rstrip("\r\n") if data else None
    except KeyboardInterrupt:
        return None
    except UnicodeDecodeError as e:
        raise InputError(f"standard input: is no text in UTF-8 ({e}); give text") from e
