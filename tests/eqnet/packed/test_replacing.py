"""An artifact takes another's place whole or not at all, and never the place of something else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqnet import RunError
from eqnet.packed.artifact import Artifact, write_artifact
from eqnet.packed.replacing import replacing

KILL_EVERYWHERE = """
import os, signal, shutil, sys, warnings
from pathlib import Path
import torch
from eqnet.packed.artifact import Artifact, write_artifact

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")
OLD, NEW = ({"a": torch.arange(100), "b": torch.ones(50)}, {"b": torch.zeros(60), "c": torch.ones(9)})
folder = Path(sys.argv[1])

def write_and_die(at, new_bytes):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in STEPS and str(folder) in str(arguments):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    write_artifact(folder, {"new": True}, NEW, shard_bytes=new_bytes)
    os._exit(0)

def state():
    artifact = Artifact.open(folder)
    tensors = NEW if artifact.config == {"new": True} else OLD
    assert set(artifact.names) == set(tensors)
    assert all(torch.equal(artifact.tensor(name), tensor) for name, tensor in tensors.items())
    return "new" if tensors is NEW else "old"

warnings.simplefilter("ignore")  # of forking
os.fsync = lambda _: None  # slow, and no help against being killed
def kill_at_every_step(old_bytes, new_bytes):
    states = []
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        write_artifact(folder, {}, OLD, shard_bytes=old_bytes)
        (folder / "tokenizer.json").write_text("mine")
        child = os.fork()
        if not child:
            write_and_die(len(states) + 1, new_bytes)
        if os.waitpid(child, 0)[1] == 0:
            assert state() == "new"
            return states
        states.append(state())
        write_artifact(folder, {}, OLD, shard_bytes=old_bytes)
        assert state() == "old"
        shards = {"model.safetensors"} if old_bytes > 1000 else {
            "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"
        }
        assert set(os.listdir(folder)) == {"config.json", "tokenizer.json"} | shards, os.listdir(folder)

print(*kill_at_every_step(10_000, 300))
print(*kill_at_every_step(300, 10_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """One file by two and an index, and these by one file."""
    ended = subprocess.run([sys.executable, "-c", KILL_EVERYWHERE, str(tmp_path / "a")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 2
    for states in (line.split() for line in lines):
        assert states == sorted(states, reverse=True)  # old up to a step, new from then on
        assert states.count("old") > 5
        assert states.count("new") > 3


def test_a_disk_that_fills_up_leaves_the_old_artifact(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    write_artifact(tmp_path, {}, {"old": torch.ones(2)})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code = (
        "import resource, signal, sys, torch; from eqnet.packed.artifact import write_artifact\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "write_artifact(sys.argv[1], {}, {'new': torch.ones(5000)})\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert f"RunError: {tmp_path}: cannot be written (File too large); free some space" in ended.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ctrl_c_leaves_nothing_of_a_new_artifact(tmp_path: Path) -> None:
    class Interrupting(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_artifact(tmp_path / "a", {}, Interrupting(a=torch.ones(1)))
    assert list(tmp_path.iterdir()) == []


def test_the_user_s_own_files_stay(tmp_path: Path) -> None:
    write_artifact(tmp_path, {}, {"a": torch.ones(1)})
    (tmp_path / "README.md").write_text("mine")
    write_artifact(tmp_path, {}, {"a": torch.zeros(1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (tmp_path / "README.md").read_text() == "mine"
    assert Artifact.open(tmp_path).tensor("a").tolist() == [0]


@pytest.mark.parametrize(
    "files",
    [{"notes.txt": "mine"}, {"config.json": '{"model_type": "bert"}', "model.safetensors": "x"}, {"config.json": "?"}],
    ids=["notes", "another model", "no JSON"],
)
def test_something_else_is_never_overwritten(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=f"not an artifact of eqnet .it holds {', '.join(files)}.; choose a new folder"):
        write_artifact(tmp_path, {}, {"a": torch.ones(1)})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(RunError, match=f"{folder}: cannot be written"):
            write_artifact(folder, {}, {})
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_a_second_writer_is_sent_away(tmp_path: Path) -> None:
    write_artifact(tmp_path, {}, {"a": torch.ones(1)})
    with replacing(tmp_path, "config.json", lambda: None, lambda _: ()) as writing:
        (writing / "config.json").write_text("first")
        with pytest.raises(RunError, match=f"{tmp_path}: another process is writing it; wait for it"):
            write_artifact(tmp_path, {}, {"a": torch.zeros(1)})
    assert (tmp_path / "config.json").read_text() == "first"


def test_what_a_killed_writer_left_does_not_stand_in_the_way(tmp_path: Path) -> None:

    code = (
        "import os, signal, sys, torch; from eqnet.packed.artifact import write_artifact\n"
        "sys.addaudithook(lambda event, _: event == 'os.rename' and os.kill(os.getpid(), signal.SIGKILL))\n"
        "write_artifact(sys.argv[1], {}, {'a': torch.ones(1)})\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")])
    assert ended.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "a").iterdir()] == [".eqnet-writing"]
    with pytest.raises(RunError, match=r"has no config.json and so is not an artifact \(found .eqnet-writing\)"):
        Artifact.open(tmp_path / "a")
    write_artifact(tmp_path / "a", {}, {"a": torch.ones(1)})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]
