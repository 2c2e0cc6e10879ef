"""Processes of their own: what they return, and how they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqnet.bench.fresh import in_new_process
from eqnet.errors import EqnetError

TIMEOUT = 60


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that runs its argument."""
    (tmp_path / "runs_its_argument.py").write_text("import sys\nexec(sys.argv[1])\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "runs_its_argument"


def test_the_last_line_is_what_it_returns(module: str) -> None:
    assert in_new_process(Path("a"), module, ["print('loading'); print('[1, 2]')"], TIMEOUT) == [1, 2]


def test_what_eqnet_says_there_is_said_here(module: str) -> None:
    words = "from eqnet.errors import InputError; raise InputError('a: is no artifact: give one')"
    with pytest.raises(EqnetError, match=r"^a: is no artifact: give one$"):
        in_new_process(Path("a"), module, [words], TIMEOUT)


def test_other_failures_are_told_by_their_last_words(module: str) -> None:
    with pytest.raises(EqnetError, match=r"^a: a new process cannot run it: KeyError: 'x'$"):
        in_new_process(Path("a"), module, ["{}['x']"], TIMEOUT)
    with pytest.raises(EqnetError, match=r"^a: a new process cannot run it: exit status 3$"):
        in_new_process(Path("a"), module, ["sys.exit(3)"], TIMEOUT)
