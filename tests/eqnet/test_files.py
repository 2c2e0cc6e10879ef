"""Writing files whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eqnet import RunError
from eqnet.files import remove_unfinished, write_atomically


def test_the_content_replaces_the_old_one_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomically(path, "première")
    write_atomically(path, b"\x00second")
    assert path.read_bytes() == b"\x00second"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "inside", "x")


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write itself fails, half way through."""
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from eqnet.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomically(Path(sys.argv[1]), b'x' * 5000)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "RunError" in ended.stderr
    assert "free some space" in ended.stderr
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_a_process_that_ends_while_writing_leaves_a_whole_file(tmp_path: Path, end: signal.Signals) -> None:
    path = tmp_path / "file"
    code = (
        "import sys; from eqnet.files import write_atomically\n"
        "while True:\n"
        "    for letter in 'ab':\n"
        "        write_atomically(sys.argv[1], letter * 3_000_000)\n"
        "        print(letter, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.send_signal(end)
    content = path.read_text()
    assert content in ("a" * 3_000_000, "b" * 3_000_000)
    if end == signal.SIGINT:
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from eqnet.files import write_atomically\n"
        "sys.addaudithook(lambda event, _: event == 'os.rename' and os.kill(os.getpid(), signal.SIGKILL))\n"
        "write_atomically(sys.argv[1], 'new')\n"
    )
    others = {"file", ".file", ".files.mine", ".other.mine", "other"}
    for name in others:
        (tmp_path / name).write_text("old")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == len(others) + 1
    remove_unfinished(tmp_path, ["file"])
    assert {path.name for path in tmp_path.iterdir()} == others
    assert (tmp_path / "file").read_text() == "old"
