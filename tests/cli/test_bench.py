"""``eqnet bench``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from eqnet import _kernels
from eqnet.bench import kernels
from eqnet.bench.fresh import Start
from tests.cli.command import TASKS, Command, refused


def test_network_is_timed_beside_fp32_and_in_a_new_process(eqnet: Command, small_task: str, artifact: Path) -> None:
    common = ("bench", artifact, "--task", small_task, "--seconds", "0.05", "--threads", "1")
    ended = eqnet(*common, "--batch", "1,3", "--json")
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)
    assert found["runs"] == "one integer program"
    assert found["isa"] == _kernels.isa()
    cases = [(speed["form"], speed["threads"], speed["batch"]) for speed in found["speeds"]]
    assert cases == [("packed", 1, 1), ("fp32", 1, 1), ("packed", 1, 3), ("fp32", 1, 3)]
    for speed in found["speeds"]:
        assert 0 < speed["p50"] <= speed["p90"] <= speed["p99"]
        assert speed["calls"] >= 3
        assert speed["per_second"] > 0
    start = found["start"]
    assert all(start[part] > 0 for part in ("importing", "loading", "first_output"))
    if start["peak_bytes"] is not None:
        assert start["peak_bytes"] >= start["imported_bytes"] > 10e6, "PyTorch alone takes more"


def test_network_is_printed_as_tables(
    eqnet: Command, small_task: str, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 6, 6), np.float32))
    monkeypatch.setattr(
        sys.modules["eqnet.cli.bench"], "start", lambda *_, **__: Start(1.5, 0.25, 0.125, 100_000_000, 120_300_000)
    )
    common = ("bench", artifact, "--task", small_task, "--seconds", "0.05", "--threads", "1")
    table = eqnet(*common, "--batch", "2", "--input", tmp_path / "x.npy").out
    assert f"Runs as one integer program; instructions: {_kernels.isa()}." in table
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert [row[:3] for row in rows[:2]] == [["packed", "1", "2"], ["fp32", "1", "2"]]
    assert all(float(cell.replace(",", "")) > 0 for row in rows[:2] for cell in row[3:])
    assert rows[2:] == [
        ["importing PyTorch and eqnet", "1.50 s"],
        ["loading", "250.0 ms"],
        ["first output", "125.0 ms"],
        ["peak memory", "120.3 MB"],
        ["of it after importing", "20.3 MB"],
    ]


def test_kernels_are_printed_beside_the_limits(eqnet: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COLD_BYTES", 1 << 14)
    monkeypatch.setattr(kernels, "BLOCK", 0)
    monkeypatch.setattr("eqnet.bench.roofline.MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr("eqnet.bench.roofline.AT_ONCE", 1 << 20)
    monkeypatch.setattr("eqnet.bench.roofline.REPEATS", 800)
    common = ("bench", "--kernels", "--seconds", "0.05", "--threads", "1,2", "--shape", "40,70")
    ended = eqnet(*common)
    assert ended.status == 0, ended.err
    rows = [line.split("│")[1:-1] for line in ended.out.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows[:2]] == ["1", "2"]
    assert len(rows) == 2 + 2 * 7 * 3 * 2
    assert [cell.strip() for cell in rows[2][:4]] == ["1", "2", "32", "float"]
    assert [cell.strip() for cell in rows[-1][:4]] == ["2", "8", "row", "int8"]
    found = json.loads(eqnet(*common, "--json").out)
    assert len(found["kernels"]) == 2 * 7 * 3 * 2 * 2
    assert [limit["threads"] for limit in found["limits"]] == [1, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("give either an artifact or --kernels",)),
        (("--kernels", "--threads", "0"), ("expected whole numbers from 1",)),
        (("--kernels", "--threads", "1,,2"), ("expected whole numbers from 1",)),
        (("--kernels", "--shape", "64"), ("--shape takes two numbers",)),
        (("--kernels", "--seconds", "0"), ("--seconds",)),
        (("nothing",), ("nothing: there is no such folder",)),
        (("nothing", "--batch", "a"), ("'a'; expected whole numbers",)),
        (("nothing", "--kernels"), ("give either",)),
    ],
    ids=str,
)
def test_bad_options_are_refused(
    eqnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(eqnet("bench", *options), *words)


def test_code_that_an_artifact_names_is_not_run(eqnet: Command, artifact: Path) -> None:
    refused(eqnet("bench", artifact), f"give --task {TASKS}:quadrants", "model= to eqnet.load")
