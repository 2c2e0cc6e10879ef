"""A run's folder: one task, one process, and nothing that does not belong to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eqnet import InputError, Plan, Run, RunError
from eqnet.lock import RunLock
from eqnet.run import clear

TASK = f"{Path(__file__).parents[1] / 'cli' / 'small_tasks.py'}:quadrants"
PLAN = Plan(TASK, "w=2-8:channel:sym a=8:asym", epochs=1, seed=3)


def trained(folder: Path) -> str:
    with Run(folder, PLAN) as run:
        run.train()
        return run.supernet.fingerprint()


def test_a_trained_run_is_reopened_as_it_was(tmp_path: Path) -> None:
    fingerprint = trained(tmp_path)
    with Run.reopen(tmp_path) as run:
        assert (run.plan.task, run.plan.epochs, run.plan.seed) == (TASK, 1, 3)
        run.train()
        assert run.supernet.fingerprint() == fingerprint


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(TASK, "w=2-7:channel:sym a=8:asym", 1, 3), "holds a run with space"),
        (Plan(TASK, PLAN.space, 1, 4), "holds a run with seed 3, not 4"),
        (Plan(TASK, PLAN.space, 2, 3), "another training"),
        (replace(PLAN, precision="bf16"), "holds a run with precision 'fp32', not 'bf16'"),
        (Plan("digits", PLAN.space, 1, 3), "holds a run with task"),
    ],
    ids=["space", "seed", "epochs", "precision", "task"],
)
def test_a_folder_of_another_run_is_refused(tmp_path: Path, plan: Plan, message: str) -> None:
    Run(tmp_path, PLAN).close()
    with pytest.raises(RunError, match=message) as raised:
        Run(tmp_path, plan)
    assert "--fresh" in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    Run(tmp_path, PLAN).close()


@pytest.mark.parametrize("key", ["model", "data"])
def test_another_model_or_other_data_under_the_same_name_is_refused(tmp_path: Path, key: str) -> None:
    Run(tmp_path, PLAN).close()
    manifest = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(manifest | {key: "0" * 64}))
    with pytest.raises(RunError, match=f"another {key}"):
        Run(tmp_path, PLAN)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"task": 3}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    Run(tmp_path, PLAN).close()
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError):
        Run(tmp_path, PLAN)
    with pytest.raises(RunError, match="holds no run of eqnet"):
        Run.reopen(tmp_path)


def test_clearing_removes_what_a_run_keeps_and_nothing_else(tmp_path: Path) -> None:
    trained(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", ".lock"}
    clear(tmp_path / "nothing")
    with pytest.raises(InputError, match="is a file"):
        clear(tmp_path / "notes.txt")


def test_a_run_is_one_processs_at_a_time(tmp_path: Path) -> None:
    with Run(tmp_path, PLAN):
        for another in (lambda: Run(tmp_path, PLAN), lambda: clear(tmp_path)):
            with pytest.raises(RunError, match="is writing this run"):
                another()
        Run(tmp_path, PLAN, shared=True).close()
        with pytest.raises(RunError, match="is writing this run"):
            RunLock(tmp_path)
    RunLock(tmp_path).release()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    def left(*names: str) -> None:
        for name in names:
            (tmp_path / name).write_text("half")

    Run(tmp_path, PLAN).close()
    left(".checkpoint.safetensors.x1", ".result.json.x2", ".notes")
    Run(tmp_path, PLAN, shared=True).close()
    assert (tmp_path / ".result.json.x2").exists(), "the first process may be writing it"
    Run(tmp_path, PLAN).close()
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", ".lock", ".notes"}
    left(".report.html.x3")
    clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".notes"}


def test_a_run_that_cannot_be_opened_lets_go_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Run(tmp_path, Plan("no-such-task"))
    RunLock(tmp_path).release()


def test_the_model_of_the_task_is_not_touched(tmp_path: Path) -> None:
    with Run(tmp_path, PLAN) as run:
        before = {name: tensor.clone() for name, tensor in run.task.model.state_dict().items()}
        run.train()
        assert all(torch.equal(tensor, before[name]) for name, tensor in run.task.model.state_dict().items())
