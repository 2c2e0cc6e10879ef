"""Checkpoints give back every bit or say why not; the log has each step once."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import eqnet
from eqnet import Choices, RunError, Supernet
from eqnet.checkpoint import Checkpoint, Log, restore_optimizer

IDENTITY = {"seed": 0, "rate": 0.1}


class _Tied(nn.Module):
    """Its last layer has the weight of its first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(3, 3), nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.middle(self.first(x)).relu())
        return result


def made(seed: int = 0, text: str = "w=2-8:channel:sym a=8:asym") -> tuple[Supernet, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _Tied()
    supernet = eqnet.elasticize(model, Choices.parse(text), torch.randn(1, 3, generator=torch.Generator()))
    supernet.calibrate([torch.randn(16, 3, generator=torch.Generator().manual_seed(1))])
    return supernet, torch.optim.Adam(supernet.parameters(), 1e-2)


def step(supernet: Supernet, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    with supernet.running(supernet.space.subnet([seed % size for size in supernet.space.sizes])):
        supernet(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    optimizer.step()


def test_restored_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    supernet, optimizer = made()
    for seed in range(3):  # each of another subnet, so that some quantizers have no state in the optimizer yet
        step(supernet, optimizer, seed)
    Checkpoint(tmp_path / "c", IDENTITY).save(supernet, optimizer, 3)
    restored, fresh = made(seed=1)
    done, state = Checkpoint(tmp_path / "c", IDENTITY).restore(restored)
    restore_optimizer(fresh, state)
    assert done == 3
    assert restored.fingerprint() == supernet.fingerprint()
    for seed in range(3, 6):
        step(supernet, optimizer, seed)
        step(restored, fresh, seed)
    assert restored.fingerprint() == supernet.fingerprint()


def test_rates_are_those_of_the_new_optimizer(tmp_path: Path) -> None:
    supernet, optimizer = made()
    step(supernet, optimizer, 0)
    Checkpoint(tmp_path / "c", IDENTITY).save(supernet, optimizer, 1)
    other = torch.optim.Adam(supernet.parameters(), 0.5)
    restore_optimizer(other, Checkpoint(tmp_path / "c", IDENTITY).restore(supernet)[1])
    assert [group["lr"] for group in other.param_groups] == [0.5]


def test_without_a_file_nothing_changes(tmp_path: Path) -> None:
    supernet, _ = made()
    before = supernet.fingerprint()
    assert Checkpoint(tmp_path / "c", IDENTITY).restore(supernet) == (0, {})
    assert supernet.fingerprint() == before


def test_the_file_is_safetensors_with_tied_weights_once(tmp_path: Path) -> None:
    supernet, optimizer = made()
    step(supernet, optimizer, 0)
    Checkpoint(tmp_path / "c", IDENTITY).save(supernet, optimizer, 7)
    with safe_open(tmp_path / "c", framework="numpy") as file:
        header, names = file.metadata(), set(file.keys())
        weight = file.get_tensor("supernet.model.first.weight")
    assert header["step"] == "7"
    assert json.loads(header["identity"]) == IDENTITY
    assert "supernet.model.last.weight" not in names
    assert (weight == supernet.elastic["last"].weight.detach().numpy()).all()
    restored, _ = made(seed=1)
    Checkpoint(tmp_path / "c", IDENTITY).restore(restored)
    assert restored.elastic["last"].weight is restored.elastic["first"].weight


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    supernet, optimizer = made()
    for done in (1, 2):
        step(supernet, optimizer, done)
        Checkpoint(tmp_path / "c", IDENTITY).save(supernet, optimizer, done)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert Checkpoint(tmp_path / "c", IDENTITY).restore(made()[0])[0] == 2


@pytest.mark.parametrize(
    ("identity", "text"),
    [({"seed": 1, "rate": 0.1}, "w=2-8:channel:sym a=8:asym"), (IDENTITY, "w=2-7:channel:sym a=8:asym")],
    ids=["options", "space"],
)
def test_another_run_is_refused_and_the_supernet_left_alone(
    tmp_path: Path, identity: dict[str, object], text: str
) -> None:
    Checkpoint(tmp_path / "c", IDENTITY).save(*made(), 1)
    supernet, _ = made(1, text)
    before = supernet.fingerprint()
    with pytest.raises(RunError, match="another model, space or options; start over with --fresh"):
        Checkpoint(tmp_path / "c", identity).restore(supernet)
    assert supernet.fingerprint() == before


def test_another_programs_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"supernet.weight": torch.zeros(2)}, tmp_path / "c")
    with pytest.raises(RunError, match="start over with --fresh"):
        Checkpoint(tmp_path / "c", IDENTITY).restore(made()[0])


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    Checkpoint(path, IDENTITY).save(*made(), 1)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    del tensors["supernet.model.middle.weight"]
    save_file(tensors, path, header)
    with pytest.raises(RunError, match=r"(?s)does not fit the model.*middle\.weight"):
        Checkpoint(path, IDENTITY).restore(made()[0])


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "folder"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    Checkpoint(path, IDENTITY).save(*made(), 1)
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"truncated": content[:-1], "foreign": b"PK" + content, "empty": b""}[damage])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: cannot be read as a checkpoint"):
        Checkpoint(path, IDENTITY).restore(made()[0])


def logged(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def write(path: Path, done: int, until: int) -> None:
    """What a training logs that goes on after ``done`` steps."""
    log = Log(path, done)
    for number in range(done + 1, until + 1):
        log.add({"step": number, "loss": 0.5})
    log.close()


def test_the_log_has_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for done, until in ((0, 5), (3, 7), (7, 7), (6, 9)):
        write(path, done, until)
        assert logged(path) == list(range(1, until + 1)) if until > done else list(range(1, done + 1))
    write(path, 0, 2)
    assert logged(path) == [1, 2]


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, 0, 4)
    path.write_text(path.read_text()[:-7])
    write(path, 4, 6)
    assert logged(path) == [1, 2, 3, 5, 6]


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", 0)
    log.add({"step": 1})
    assert logged(tmp_path / "log") == [1], "a killed process loses none"
    log.close()


def add_nine(log: Log) -> None:
    for number in range(1, 10):
        log.add({"step": number})


def test_a_full_disk_is_reported_with_the_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    path = tmp_path / "log"
    log, before = Log(path, 0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    try:
        with pytest.raises(RunError, match="free some space") as raised:
            add_nine(log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.close()
    assert str(path) in str(raised.value)
    write(path, 3, 5)
    assert logged(path) == [1, 2, 3, 4, 5], "the line that did not fit is dropped"
