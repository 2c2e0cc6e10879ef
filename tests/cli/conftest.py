"""Running the command line in this process."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from eqnet.cli import main
from tests.cli.command import SAMPLES, TASKS, Command, Ended


@pytest.fixture
def eqnet(capfd: pytest.CaptureFixture[str]) -> Command:
    """``eqnet("search", "--budget", "4bit")`` → how it ended."""

    def run(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        AcceleratorState._reset_state(True)  # each command is a process of its own, with a precision of its own
        printed = capfd.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def small_task() -> str:
    """A task that a search of takes seconds."""
    return f"{TASKS}:quadrants"


@pytest.fixture(scope="session")
def finished_run(small_task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished 4-bit search; not to be written."""
    torch.set_num_threads(1)  # as in every test; another number adds up in another order
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.raises(SystemExit) as ended:
        main(["search", "--task", small_task, "--budget", "4bit", *SAMPLES, "--out", str(folder)])
    AcceleratorState._reset_state(True)
    assert not ended.value.code
    return folder


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """The same, to be written."""
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture(scope="session")
def artifact(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What that search found, exported; not to be written."""
    folder = tmp_path_factory.mktemp("exported") / "quadrants"
    with pytest.raises(SystemExit) as ended:
        main(["export", str(finished_run), "-o", str(folder)])
    AcceleratorState._reset_state(True)
    assert not ended.value.code
    return folder


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than searching here, so that most tests leave it out."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
