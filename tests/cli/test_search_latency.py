"""``eqnet search`` within a latency, from end to end."""

from __future__ import annotations

import json
import re
from importlib import import_module, metadata
from pathlib import Path

import pytest

from eqnet.bench import timing
from eqnet.search.latency import meter
from eqnet.search.latency.engine import Timed
from eqnet.search.latency.eqnet import OwnEngine
from eqnet.search.result import SearchResult
from tests.cli.command import Command, refused, result_of, search


@pytest.fixture
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Timing for moments; tells what was timed together: the number of calls, each time."""
    in_turn, seen = meter.in_turn, []

    def noted(calls, seconds: float, block: float = 0.0) -> list[timing.Times]:
        seen.append(len(calls))
        return in_turn(calls, min(seconds, 0.01), block)

    monkeypatch.setattr(meter, "in_turn", noted)
    return seen


def test_latency_is_timed_once_and_the_same_command_gives_the_same_result(
    eqnet: Command, small_task: str, copied_run: Path, quick_timing: list[int]
) -> None:
    asked = ("--target", "eqnet", "--budget", "4bit", "--budget", "0.5s")
    ended = search(eqnet, small_task, copied_run, *asked)
    assert ended.status == 0, ended.err
    result, first = SearchResult.load(copied_run / "result.json"), (copied_run / "result.json").read_bytes()
    assert [(b.text, b.metric, b.limit) for b in result.budget][1] == ("0.5s", "latency", 0.5)
    assert result.cost.code_bits <= 4
    assert result.latency is not None
    assert 1e-7 < result.latency.low <= result.latency.measured <= result.latency.high < 0.5
    assert f"Latency for one input: {1e6 * result.latency.measured:,.1f} us measured" in ended.out
    assert "the budget is 0.5s" in ended.out
    assert "1 thread," in ended.out
    report = (copied_run / "report.html").read_text()
    assert "Latency of this network, measured" in report
    assert "at most 500" in report
    assert len(quick_timing) > 5
    quick_timing.clear()
    assert search(eqnet, small_task, copied_run, *asked).status == 0
    assert quick_timing == []
    assert (copied_run / "result.json").read_bytes() == first


@pytest.mark.usefixtures("without_report", "quick_timing")
def test_latency_of_another_target_is_that_of_its_engine_in_formats_that_it_runs(
    eqnet: Command, small_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Timed("tensorrt", lambda *_: OwnEngine(whole=True), ("eqnet", "numpy"))
    monkeypatch.setattr(import_module("eqnet.cli.search"), "ENGINES", {"tensorrt": row})
    asked = ("--target", "tensorrt", "--budget", "0.5s", "--space", "w=4,8:channel:sym,asym a=8:sym,asym", "--json")
    result = result_of(search(eqnet, small_task, tmp_path / "run", *asked))
    assert result.latency is not None
    assert result.latency.machine.endswith(f"eqnet {metadata.version('eqnet')}, numpy {metadata.version('numpy')}")
    assert {str(fmt) for fmt in result.subnet.values()} == {"int8:channel × int8:tensor"}
    named = json.loads((tmp_path / "run" / "latency.json").read_text())["nanoseconds"]
    assert named
    assert not any("uint8:channel" in key for key in named), "what it does not run is not timed"


def test_result_and_report_of_a_latency_alone(
    eqnet: Command, small_task: str, copied_run: Path, quick_timing: list[int]
) -> None:
    result = result_of(
        search(eqnet, small_task, copied_run, "--target", "eqnet", "--budget", "0.5s", "--pareto", "--json")
    )
    assert result.cost.latency is not None
    assert all(point.cost.latency is not None for point in result.front)
    assert "<svg" in (copied_run / "report.html").read_text()
    assert quick_timing


@pytest.mark.usefixtures("without_report", "quick_timing")
def test_impossible_latency_is_refused_before_training_with_one_which_then_works(
    eqnet: Command, small_task: str, tmp_path: Path
) -> None:
    folder, target = tmp_path / "run", ("--target", "eqnet")
    ended = search(eqnet, small_task, folder, *target, "--budget", "0.01us")
    refused(ended, "budget '0.01us' cannot be met")
    assert not (folder / "training.jsonl").exists()
    possible = re.findall(r"ask for at least (\S+)", ended.err)[0]
    result = result_of(search(eqnet, small_task, folder, *target, "--budget", possible, "--json"))
    assert result.latency is not None
    noise = result.latency.high - result.latency.low
    assert result.latency.measured <= result.budget[0].limit + noise
    (folder / "latency.json").write_text("{}")
    refused(search(eqnet, small_task, folder, *target, "--budget", possible), "latency.json", "remove it")
    assert search(eqnet, small_task, folder, *target, "--budget", "0.01us", "--fresh").status == 2
    assert json.loads((folder / "latency.json").read_text())["nanoseconds"], "starting over times again"


def test_latency_without_an_engine_that_can_be_timed_is_refused_before_any_work(
    eqnet: Command, small_task: str, tmp_path: Path
) -> None:
    for target in ((), ("--target", "tensorrt")):
        ended = search(eqnet, small_task, tmp_path / "run", "--budget", "300us", *target)
        refused(ended, "budget '300us'", "--target eqnet")
    assert not (tmp_path / "run").exists()
