"""``eqnet search`` from end to end, on a task that takes seconds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from eqnet.lock import RunLock
from eqnet.search.result import SearchResult
from tests.cli.command import TASKS, Command, Ended

SAMPLES = ("--samples", "24")


def _search(eqnet: Command, task: str, folder: Path, *more: str) -> Ended:
    return eqnet("search", "--task", task, "--out", folder, *SAMPLES, *more)


def test_leaves_a_result_a_subnet_and_a_report(finished_run: Path) -> None:
    result = SearchResult.load(finished_run / "result.json")
    assert result.task == "quadrants"
    assert [(b.text, b.metric, b.limit) for b in result.budget] == [("4bit", "code_bits", 4.0)]
    assert json.loads((finished_run / "subnet.json").read_text()) == result.subnet.to_json()
    assert "<svg" in (finished_run / "report.html").read_text()
    assert {p.suffix for p in (finished_run / "figures").iterdir()} == {".png", ".svg"}


def test_budget_is_met_and_used_up(finished_run: Path) -> None:
    result = SearchResult.load(finished_run / "result.json")
    weights = {layer.name: layer.weights for layer in result.layers}
    bits = sum(result.subnet[name].weight.bits * count for name, count in weights.items())
    assert bits == pytest.approx(result.cost.code_bits * sum(weights.values()))
    assert 0.99 * 4 <= result.cost.code_bits <= 4
    first, *_, last = result.layers
    assert result.subnet[first.name].weight.bits == result.subnet[last.name].weight.bits == 8


def test_same_seed_gives_the_same_bytes_and_leaves_global_generators_alone(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    ended = _search(eqnet, small_task, tmp_path / "again", "--budget", "4bit")
    assert ended.status == 0, ended.err
    assert (tmp_path / "again" / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


def test_another_budget_uses_the_measurements_again(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    log = (folder / "training.jsonl").read_bytes()
    rows = _rows(folder)
    ended = _search(eqnet, small_task, folder, "--budget", "3.5bit", "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["cost"]["code_bits"] <= 3.5
    assert (folder / "training.jsonl").read_bytes() == log
    assert rows >= 24
    assert _rows(folder) - rows < 24


def test_several_budgets_and_a_target_hold_together(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    ended = _search(
        eqnet, small_task, tmp_path / "run", "--epochs", "0", "--target", "onnxruntime",
        "--budget", "6bit", "--budget", "3kB", "--json",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    result = SearchResult.from_json(json.loads(ended.out))
    assert result.cost.code_bits <= 6
    assert result.cost.bytes <= 3000
    for layer in result.subnet.values():
        assert layer.weight.bits in (2, 4, 8)
        assert layer.activation is not None
        assert layer.activation.bits == 8


def test_floor_on_accuracy_gives_a_small_network_that_reaches_it(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    ended = _search(eqnet, small_task, folder, "--budget", "60%acc", "--json")
    assert ended.status == 0, ended.err
    result = SearchResult.from_json(json.loads(ended.out))
    assert result.accuracy.validation >= 0.60
    assert result.cost.bytes < result.accuracy.uniform[8].cost.bytes
    ended = _search(eqnet, small_task, folder, "--budget", "100%acc", "--budget", "2.5bit")
    assert ended.status == 2
    assert "ask for at most" in ended.err


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("1bit", "bits are 2 to 8"),
        ("9bit", "bits are 2 to 8"),
        ("0MB", "above zero"),
        ("4bits!", "4bits!"),
        ("5ms", "latency is not supported yet"),
        ("2.1bit", "ask for at least"),
        ("10B", "ask for at least"),
    ],
)
def test_impossible_budget_is_refused_before_training(
    eqnet: Command, small_task: str, tmp_path: Path, budget: str, message: str
) -> None:
    ended = _search(eqnet, small_task, tmp_path / "run", "--budget", budget)
    assert ended.status == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run" / "training.jsonl").exists()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("digit", "digits"),
        (f"{TASKS}:nothing", "nothing"),
        (f"{TASKS}:raises", "the disk with the photographs is gone"),
        (f"{TASKS}:no_layers", "no layer that can be quantized"),
        (f"{TASKS}:nan_weight", "layer '3': its weight holds inf or NaN"),
        (f"{TASKS}:nan_data", "layer '0': its calibration inputs hold inf or NaN"),
        (f"{TASKS}:empty", "empty"),
    ],
    ids=["unknown", "no-such-name", "raises", "no-layers", "nan-weight", "nan-data", "empty"],
)
def test_unusable_task_is_refused_with_its_name(eqnet: Command, tmp_path: Path, task: str, message: str) -> None:
    ended = _search(eqnet, task, tmp_path / "run", "--budget", "4bit", "--epochs", "0")
    assert ended.status == 2, ended.err
    assert message in ended.err
    assert "Traceback" not in ended.err


def test_layer_that_is_never_called_is_named(eqnet: Command, tmp_path: Path) -> None:
    ended = eqnet("train", "--task", f"{TASKS}:never_called", "--out", tmp_path / "run", "--epochs", "0")
    assert ended.status == 0, ended.err
    assert "left in floating point: spare (it is never called on the example inputs)" in ended.out


def test_folder_of_another_run_is_refused_until_fresh(eqnet: Command, finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    other = ("--budget", "4bit", "--space", "w=2-8:channel:sym a=8:asym", "--epochs", "0")
    ended = _search(eqnet, f"{TASKS}:quadrants", folder, *other)
    assert ended.status == 2
    assert "holds a run with space" in ended.err
    assert "--fresh" in ended.err
    ended = _search(eqnet, f"{TASKS}:quadrants", folder, *other, "--fresh")
    assert ended.status == 0, ended.err
    assert not (folder / "training.jsonl").exists()


@pytest.mark.parametrize("content", [b"not a database", b""], ids=["foreign", "emptied"])
def test_corrupt_store_is_refused_or_started_anew(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path, content: bytes
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / "measurements.sqlite").write_bytes(content)
    ended = _search(eqnet, small_task, folder, "--budget", "4bit")
    if content:
        assert ended.status == 2
        assert "measurements.sqlite" in ended.err
    else:  # SQLite takes an empty file for an empty database
        assert ended.status == 0, ended.err
        assert (folder / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()


def test_second_search_of_the_same_run_is_refused(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "run")
    ended = _search(eqnet, small_task, tmp_path / "run", "--budget", "4bit")
    lock.release()
    assert ended.status == 2
    assert "is writing this run" in ended.err


def test_folder_that_cannot_be_written_is_named(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = _search(eqnet, small_task, tmp_path / "file" / "run", "--budget", "4bit")
    assert ended.status == 2
    assert str(tmp_path / "file" / "run") in ended.err


def test_full_disk_is_reported_with_the_file(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eqnet.files.os.fsync", full)
    old = (folder / "result.json").read_bytes()
    ended = _search(eqnet, small_task, folder, "--budget", "3.5bit")
    assert ended.status == 2
    assert "No space left on device" in ended.err
    assert (folder / "result.json").read_bytes() == old


def test_interrupted_search_goes_on_and_ends_the_same(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "eqnet", "search", "--task", small_task, "--out", str(folder), *SAMPLES]
    process = subprocess.Popen([*command, "--budget", "4bit"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (_rows(folder) >= 5 or process.poll() is not None):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted; nothing is lost" in err
    assert not (folder / "result.json").exists()
    ended = _search(eqnet, small_task, folder, "--budget", "4bit")
    assert ended.status == 0, ended.err
    assert (folder / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()


def test_options_come_from_a_file_and_the_command_line_overrides_them(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    config = tmp_path / "config.toml"
    config.write_text(f'task = "{small_task}"\nbudget = ["3.5bit"]\nsamples = 24\nout = "{folder}"\n')
    ended = eqnet("search", "--config", config, "--budget", "5bit", "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["budget"][0]["text"] == "5bit"
    config.write_text("bugdet = 3\n")
    ended = eqnet("search", "--config", config)
    assert ended.status == 2
    assert "unknown option 'bugdet'" in ended.err


def test_without_matplotlib_the_result_is_kept_and_the_report_left_out(
    small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / "report.html").unlink()
    (folder / "result.json").unlink()
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not installed')\n")
    command = [sys.executable, "-m", "eqnet", "search", "--task", small_task, "--out", str(folder), *SAMPLES]
    ended = subprocess.run(
        [*command, "--budget", "4bit"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    assert "pip install eqnet[report]" in ended.stderr
    assert not (folder / "report.html").exists()
    assert (folder / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()


def test_needs_a_budget_or_pareto(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    ended = _search(eqnet, small_task, tmp_path / "run")
    assert ended.status == 2
    assert "give at least one --budget" in ended.err


def _rows(folder: Path) -> int:
    path = folder / "measurements.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT COUNT(*) FROM measurements").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
