"""What the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eqnet.search.result import SearchResult

TASKS = Path(__file__).with_name("small_tasks.py")

SAMPLES = ("--samples", "24")
"""Of a search that takes seconds."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status and what it printed."""

    status: int
    out: str
    err: str


Command = Callable[..., Ended]


def refused(ended: Ended, *words: str) -> None:
    """Bad input: exit status 2, one message with all the words, no traceback, nothing on standard output."""
    assert ended.status == 2, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


def search(eqnet: Command, task: str, folder: Path, *more: str) -> Ended:
    """Runs ``eqnet search`` for seconds."""
    return eqnet("search", "--task", task, "--out", folder, *SAMPLES, *more)


def result_of(ended: Ended) -> SearchResult:
    """What a search printed as JSON."""
    assert ended.status == 0, ended.err
    return SearchResult.from_json(json.loads(ended.out))
