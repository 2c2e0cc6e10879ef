"""A folder is one process's at a time, and nobody's once that process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eqnet import RunError
from eqnet.lock import RunLock

HOLD = "import sys, time; from pathlib import Path; from eqnet.lock import RunLock\nlock = RunLock(Path(sys.argv[1]))\n"


def held(folder: Path, then: str) -> subprocess.Popen[str]:
    """Another process that holds ``folder`` already, and runs ``then``."""
    code = f"{HOLD}print('held', flush=True)\n{then}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda end: end.name)
def test_another_process_is_refused_until_it_dies(tmp_path: Path, end: signal.Signals) -> None:
    with held(tmp_path, "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(60)") as process:
        with pytest.raises(RunError, match=f"process {process.pid} is writing this run") as raised:
            RunLock(tmp_path)
        assert str(tmp_path) in str(raised.value)
        assert "--out" in str(raised.value)
        process.send_signal(end)
    RunLock(tmp_path).release()


def test_a_second_lock_of_the_same_process_is_refused(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    with pytest.raises(RunError, match=f"process {os.getpid()} is writing this run"):
        RunLock(tmp_path)
    lock.release()
    lock.release()
    again = RunLock(tmp_path)
    again.release()


def test_released_it_is_free_though_a_child_lives(tmp_path: Path) -> None:
    """A process that loads data inherits the open file; it does not keep the folder."""
    fork = "import os\nif os.fork():\n    lock.release()\n    print('released', flush=True)\nsys.stdin.read()"
    with held(tmp_path, fork) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "released\n"
        RunLock(tmp_path).release()


def test_folders_are_apart_and_made_if_need_be(tmp_path: Path) -> None:
    locks = [RunLock(tmp_path / "runs" / name) for name in ("a", "b")]
    assert (tmp_path / "runs" / "a").is_dir()
    for lock in locks:
        lock.release()


@pytest.mark.parametrize("parent", ["file", "/proc"], ids=["under-a-file", "read-only"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / parent / "run"
    with pytest.raises(RunError, match="cannot be used as a run's folder") as raised:
        RunLock(folder)
    assert str(folder) in str(raised.value)
