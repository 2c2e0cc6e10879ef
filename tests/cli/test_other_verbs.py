"""``eqnet train``, ``eval``, ``inspect`` and ``targets``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from eqnet.search.result import SearchResult
from tests.cli.command import Command


def test_eval_measures_what_the_search_reported(eqnet: Command, finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    result = SearchResult.load(folder / "result.json")
    ended = eqnet("eval", folder, "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["accuracy"] == pytest.approx(result.accuracy.test, abs=1e-6)
    ended = eqnet("eval", folder, "--uniform", "2")
    assert ended.status == 0, ended.err
    assert "accuracy" in ended.out


def test_eval_refuses_a_subnet_of_another_model(eqnet: Command, finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    other = tmp_path / "other.json"
    other.write_text('{"conv": {"weight": "int4:channel", "activation": null}}')
    ended = eqnet("eval", folder, "--subnet", other)
    assert ended.status == 2
    assert "other.json" in ended.err
    assert "conv" in ended.err


@pytest.mark.parametrize("verb", ["eval", "inspect"])
def test_folder_without_a_run_is_named(eqnet: Command, verb: str, tmp_path: Path) -> None:
    ended = eqnet(verb, tmp_path)
    assert ended.status == 2
    assert str(tmp_path) in ended.err


def test_inspect_shows_every_layer(eqnet: Command, finished_run: Path) -> None:
    result = SearchResult.load(finished_run / "result.json")
    ended = eqnet("inspect", finished_run, "--json")
    layers = json.loads(ended.out)
    assert [layer["name"] for layer in layers] == [layer.name for layer in result.layers]
    assert sum(layer["bytes"] for layer in layers) <= result.cost.bytes
    table = eqnet("inspect", finished_run).out
    assert all(layer.name in table for layer in result.layers)


def test_train_then_search_trains_once(eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = eqnet("train", "--task", small_task, "--out", folder, "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["last_step"]["step"] == 4
    log = (folder / "training.jsonl").read_bytes()
    ended = eqnet("search", "--task", small_task, "--out", folder, "--budget", "4bit", "--samples", "24")
    assert ended.status == 0, ended.err
    assert (folder / "training.jsonl").read_bytes() == log
    assert (folder / "result.json").read_bytes() == (finished_run / "result.json").read_bytes()


def test_targets_are_listed(eqnet: Command) -> None:
    names = [target["name"] for target in json.loads(eqnet("targets", "--json").out)]
    assert {"eqnet", "onnxruntime", "onnxruntime-weight-only"} <= set(names)
    assert "onnxruntime" in eqnet("targets").out


def test_unknown_device_and_target_are_refused(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    common = ("search", "--task", small_task, "--out", tmp_path / "run", "--budget", "4bit")
    ended = eqnet(*common, "--target", "onnxruntim")
    assert ended.status == 2
    assert "did you mean 'onnxruntime'" in ended.err


@pytest.mark.parametrize("verb", [(), ("train",), ("search",), ("eval",), ("inspect",), ("targets",)], ids=str)
def test_help_needs_nothing(eqnet: Command, verb: tuple[str, ...]) -> None:
    ended = eqnet(*verb, "--help")
    assert ended.status == 0
    assert ended.out.startswith("Usage:")
