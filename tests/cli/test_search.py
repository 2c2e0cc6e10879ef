"""``eqnet search`` from end to end, on a task that takes seconds."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from eqnet.lock import RunLock
from eqnet.search.result import SearchResult
from eqnet.search.store import Store
from tests.cli.command import SAMPLES, TASKS, Command, Ended, refused, result_of, search

_SEARCH = (sys.executable, "-m", "eqnet", "search")
_ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # as in this process; more would add up in another order


def _rows(folder: Path) -> list[str]:
    """The measured subnets, in order."""
    path = folder / "measurements.sqlite"
    if not path.exists():
        return []
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return [row[0] for row in database.execute("SELECT subnet FROM measurements ORDER BY number")]
    except sqlite3.OperationalError:  # the writer is at its first lines
        return []


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


@pytest.mark.usefixtures("without_report")
def test_same_seed_gives_the_same_bytes_and_leaves_global_generators_alone(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    ended = search(eqnet, small_task, tmp_path / "again", "--budget", "4bit")
    assert ended.status == 0, ended.err
    assert (tmp_path / "again" / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


@pytest.mark.usefixtures("without_report")
def test_another_budget_trains_nothing_and_measures_nothing_twice(
    eqnet: Command, small_task: str, copied_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, kept = (copied_run / "training.jsonl").read_bytes(), _rows(copied_run)
    added: list[str] = []
    add = Store.add

    def noted(store: Store, subnet, measurement) -> None:
        added.append(json.dumps(dict(sorted(subnet.to_json().items())), separators=(",", ":")))
        add(store, subnet, measurement)

    monkeypatch.setattr(Store, "add", noted)
    result = result_of(search(eqnet, small_task, copied_run, "--budget", "3.5bit", "--json"))
    assert result.cost.code_bits <= 3.5
    assert (copied_run / "training.jsonl").read_bytes() == log
    assert len(kept) >= 24
    assert _rows(copied_run) == kept + added


@pytest.mark.usefixtures("without_report")
def test_several_budgets_and_a_target_of_a_file_hold_together(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'task = "{small_task}"\nout = "{tmp_path}/run"\nsamples = 24\nepochs = 0\njson = true\n'
        'target = "onnxruntime"\nbudget = ["6bit", "3kB"]\n'
    )
    result = result_of(eqnet("search", "--config", config))
    assert [budget.text for budget in result.budget] == ["6bit", "3kB"]
    assert not (tmp_path / "run" / "training.jsonl").exists(), "nothing was trained"
    assert result.cost.code_bits <= 6
    assert result.cost.bytes <= 3000
    for layer in result.subnet.values():
        assert layer.weight.bits in (2, 4, 8)
        assert layer.activation is not None
        assert layer.activation.bits == 8


@pytest.mark.usefixtures("without_report")
def test_floor_on_accuracy_gives_a_small_network_that_reaches_it(
    eqnet: Command, small_task: str, copied_run: Path
) -> None:
    result = result_of(search(eqnet, small_task, copied_run, "--budget", "90%acc", "--json"))
    assert [(b.text, b.metric, b.limit) for b in result.budget] == [("90%acc", "accuracy", 0.9)]
    assert result.accuracy.validation >= 0.90
    assert result.cost.bytes < result.accuracy.uniform[4].cost.bytes


def test_pareto_measures_networks_along_the_whole_front(eqnet: Command, small_task: str, copied_run: Path) -> None:
    result = result_of(search(eqnet, small_task, copied_run, "--pareto", "--json"))
    assert result.budget == ()
    measured = [point for point in result.front if point.validation is not None]
    assert 2 < len(measured) <= 12
    assert measured[0] == min(result.front, key=lambda point: point.cost.bytes)
    assert measured[-1] == max(result.front, key=lambda point: point.cost.bytes)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("1bit", "bits are 2 to 8"),
        ("9bit", "bits are 2 to 8"),
        ("0MB", "above zero"),
        ("4bits!", "4bits!"),
        ("101%acc", "at most 100 %"),
        ("5MS", "did you mean '5ms'"),
        ("5ms", "no target was given; search for the target eqnet"),
    ],
)
def test_budget_that_makes_no_sense_is_refused_before_any_work(
    eqnet: Command, small_task: str, tmp_path: Path, budget: str, message: str
) -> None:
    refused(search(eqnet, small_task, tmp_path / "run", "--budget", budget), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("without_report")
def test_impossible_budget_is_refused_before_training_with_the_least_one_which_then_works(
    eqnet: Command, small_task: str, copied_run: Path, tmp_path: Path
) -> None:
    possible: list[str] = []
    for budget in ("2.1bit", "2bpw", "10B", "1BOPs", "a2bit"):
        ended = search(eqnet, small_task, tmp_path / "new", "--budget", budget)
        refused(ended, f"budget '{budget}' cannot be met")
        possible += ["--budget", re.findall(r"ask for at least (\S+)", ended.err)[0]]
    assert not (tmp_path / "new" / "training.jsonl").exists()
    result = result_of(search(eqnet, small_task, copied_run, *possible, "--json"))
    assert len(result.budget) == 5
    for budget in result.budget:
        assert 0.99 * budget.limit <= getattr(result.cost, budget.metric) <= budget.limit


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("digit", "did you mean digits?"),
        (f"{TASKS}:nothing", "its module has no nothing"),
        (f"{TASKS}:raises", "the disk with the photographs is gone"),
        (f"{TASKS}:no_layers", "no layer that can be quantized"),
        (f"{TASKS}:nan_weight", "layer '3': its weight holds inf or NaN"),
        (f"{TASKS}:nan_data", "layer '0': its calibration inputs hold inf or NaN"),
        (f"{TASKS}:empty", "train is empty"),
    ],
    ids=["unknown", "no-such-name", "raises", "no-layers", "nan-weight", "nan-data", "empty"],
)
def test_unusable_task_is_refused_with_its_name(eqnet: Command, tmp_path: Path, task: str, message: str) -> None:
    refused(search(eqnet, task, tmp_path / "run", "--budget", "4bit", "--epochs", "0"), message)


def test_folder_of_another_run_is_refused(eqnet: Command, small_task: str, copied_run: Path) -> None:
    before = (copied_run / "result.json").read_bytes()
    refused(
        search(eqnet, small_task, copied_run, "--budget", "4bit", "--space", "w=2-8:channel:sym a=8:asym"),
        str(copied_run), "holds a run with space", "--fresh",
    )  # fmt: skip
    refused(search(eqnet, small_task, copied_run, "--budget", "4bit", "--seed", "1"), "holds a run with seed 0, not 1")
    assert (copied_run / "result.json").read_bytes() == before


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE photographs (name TEXT)")
    database.close()


def _of_another_network(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE fingerprint SET value = 'another'")
    database.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"not a database" * 100), "start over with --fresh"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "start over with --fresh"),
        (_foreign, "database of another program"),
        (_of_another_network, "measurements of another model, data or space"),
    ],
    ids=["no-database", "cut-off", "foreign", "of-another-network"],
)
def test_store_that_cannot_be_used_is_refused_and_left_as_it_is(
    eqnet: Command, small_task: str, copied_run: Path, damage, message: str
) -> None:
    store, result = copied_run / "measurements.sqlite", (copied_run / "result.json").read_bytes()
    damage(store)
    before = store.read_bytes()
    refused(search(eqnet, small_task, copied_run, "--budget", "4bit"), str(store), message)
    assert (copied_run / "result.json").read_bytes() == result
    assert store.read_bytes()[100:] == before[100:], "SQLite may note in its header that it was opened"


def test_second_search_of_the_same_run_is_refused(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "run")
    ended = search(eqnet, small_task, tmp_path / "run", "--budget", "4bit", "--fresh")
    lock.release()
    refused(ended, f"process {os.getpid()} is writing this run")


@pytest.mark.parametrize("parent", ["file", "/proc"], ids=["under-a-file", "read-only"])
def test_folder_that_cannot_be_made_is_named(eqnet: Command, small_task: str, tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / parent / "run"  # nobody, not even root, makes a folder in /proc
    refused(search(eqnet, small_task, folder, "--budget", "4bit"), str(folder), "--out")


@contextmanager
def _files_at_most(size: int) -> Iterator[None]:
    """Writing past ``size`` bytes fails inside, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("kept", "size", "file"),
    [
        ((), 50_000, "checkpoint.safetensors"),
        (("checkpoint.safetensors", "training.jsonl"), 20_000, "measurements.sqlite"),
    ],
    ids=["training", "measuring"],
)
@pytest.mark.usefixtures("without_report")
def test_full_disk_is_reported_with_the_file_and_the_same_command_goes_on(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path, kept: tuple[str, ...], size: int, file: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in kept:
        shutil.copy(finished_run / name, folder)
    with _files_at_most(size):
        refused(search(eqnet, small_task, folder, "--budget", "4bit"), str(folder / file), "free some space")
    assert not (folder / "result.json").exists()
    ended = search(eqnet, small_task, folder, "--budget", "4bit")
    assert ended.status == 0, ended.err
    assert (folder / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()


@pytest.mark.usefixtures("without_report")
def test_interrupted_search_goes_on_and_ends_the_same(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [*_SEARCH, "--task", small_task, "--out", str(folder), *SAMPLES, "--budget", "4bit"]
    with subprocess.Popen(command, env=_ONE_THREAD, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(_rows(folder)) < 5 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted; nothing is lost" in err
    assert "Traceback" not in err
    assert not (folder / "result.json").exists()
    measured = _rows(folder)
    assert len(measured) >= 5
    ended = search(eqnet, small_task, folder, "--budget", "4bit")
    assert ended.status == 0, ended.err
    assert _rows(folder)[: len(measured)] == measured
    assert (folder / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()


def test_without_the_packages_of_the_report_the_result_is_kept(
    small_task: str, finished_run: Path, copied_run: Path, tmp_path: Path
) -> None:
    """In a process of its own, in which importing the package anywhere fails."""
    for name in ("report.html", "result.json", "subnet.json"):
        (copied_run / name).unlink()
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "matplotlib.py").write_text('raise ImportError("not here")\n')
    command = [*_SEARCH, "--task", small_task, "--out", str(copied_run), *SAMPLES, "--budget", "4bit", "--json"]
    environment = _ONE_THREAD | {"PYTHONPATH": str(tmp_path / "absent")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    result = result_of(Ended(done.returncode, done.stdout, done.stderr))
    assert "the report needs matplotlib; run: pip install eqnet[report]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copied_run / "report.html").exists()
    assert SearchResult.load(copied_run / "result.json") == result
    for name in ("result.json", "subnet.json"):
        assert (copied_run / name).read_bytes() == (finished_run / name).read_bytes()


def test_needs_a_budget_or_pareto(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    refused(search(eqnet, small_task, tmp_path / "run"), "give at least one --budget")


def test_options_come_from_a_file_and_the_command_line_overrides_them(eqnet: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'task = "{TASKS}:quadrants"\nbudget = ["4bit", "1bit"]\nout = "{tmp_path}/run"\n')
    refused(eqnet("search", "--config", config), "budget '1bit'")
    refused(eqnet("search", "--config", config, "--budget", "9bit"), "budget '9bit'")
    refused(eqnet("search", "--budget", "10B", "--config", config), "budget '10B' cannot be met")
    config.write_text(f'task = "{TASKS}:quadrants"\nbudget = "9bit"\n')
    refused(eqnet("search", "--config", config), "budget '9bit'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"bugdet = 3\n", "unknown option 'bugdet'"),
        (b"budget = [", "cannot be read as TOML"),
        (b"PK\xff\xfe", "cannot be read as TOML"),
        (None, "cannot be read"),
    ],
    ids=["unknown-option", "no-toml", "no-text", "no-file"],
)
def test_unusable_file_of_options_is_refused_by_name(
    eqnet: Command, tmp_path: Path, content: bytes | None, message: str
) -> None:
    config = tmp_path / "config.toml"
    if content is not None:
        config.write_bytes(content)
    refused(eqnet("search", "--config", config), str(config), message)
