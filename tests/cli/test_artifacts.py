"""``eqnet export``, and ``eval`` and ``inspect`` of what it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from eqnet import load
from eqnet.search.result import SearchResult
from eqnet.tasks.pretraining import Recipe
from tests.cli.command import TASKS, Command, Ended, refused
from tests.cli.small_tasks import _network


def _json(ended: Ended):
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


@pytest.fixture
def copied(artifact: Path, tmp_path: Path) -> Path:
    """The same, to be written."""
    return shutil.copytree(artifact, tmp_path / "copied")


def test_export_stores_the_bytes_of_the_budget(eqnet: Command, copied_run: Path, tmp_path: Path) -> None:
    result = SearchResult.load(copied_run / "result.json")
    out = tmp_path / "out"
    size = _json(eqnet("export", copied_run, "-o", out, "--json"))
    assert size["bytes"] == size["budgeted"] == result.cost.bytes
    assert size["files"] == sum(path.stat().st_size for path in out.iterdir()) == size["bytes"] + size["overhead"]
    assert size["bpw"] == pytest.approx(result.cost.bpw)
    assert size["runs"] == "one integer program"
    assert "eqnet" in size["targets"]


def test_export_again_replaces_the_artifact_and_prints_its_size(eqnet: Command, copied_run: Path, copied: Path) -> None:
    ended = eqnet("export", copied_run, "-o", copied, "--uniform", "2")
    assert ended.status == 0, ended.err
    nbytes = load(copied, _network).nbytes
    assert ended.out.count(f"{nbytes:,} bytes") == 2, "the tensors, and the budget's arithmetic"
    layers = _json(eqnet("inspect", copied, "--json"))["layers"]
    assert [layer["name"] for layer in layers] == ["0", "3", "6", "9", "11"]
    assert [layer["weight"] for layer in layers] == ["int8:channel", *["int2:channel"] * 3, "int8:channel"]


def test_export_of_one_network_twice_gives_the_same_bytes(eqnet: Command, copied_run: Path, tmp_path: Path) -> None:
    subnet = copied_run / "subnet.json"
    assert eqnet("export", copied_run, "-o", tmp_path / "found").status == 0
    assert eqnet("export", copied_run, "-o", tmp_path / "named", "--subnet", subnet).status == 0
    for path in (tmp_path / "found").iterdir():
        assert path.read_bytes() == (tmp_path / "named" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "onxx"), ("--to onxx: there is no such destination", "eqnet")),
        (("--to", "eqnt"), ("did you mean eqnet?",)),
        (("--uniform", "9"), ("2<=x<=8",)),
        (("--uniform", "4", "--subnet", "other.json"), ("give either --subnet or --uniform",)),
        (("--subnet", "missing.json"), ("missing.json",)),
    ],
    ids=["no-destination", "slip", "9-bits", "both", "no-file"],
)
def test_export_refuses_what_it_cannot_write(
    eqnet: Command, finished_run: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(eqnet("export", finished_run, "-o", tmp_path / "out", *options), *words)
    assert not (tmp_path / "out").exists()


def test_export_leaves_a_folder_of_something_else_alone(eqnet: Command, copied_run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    refused(eqnet("export", copied_run, "-o", tmp_path / "photos"), str(tmp_path / "photos"), "cat.jpg")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_export_needs_a_run_with_a_result(eqnet: Command, tmp_path: Path) -> None:
    refused(eqnet("export", tmp_path, "-o", tmp_path / "out"), str(tmp_path), "run eqnet search")
    refused(eqnet("export", tmp_path), "--out")


def test_eval_of_an_artifact_is_what_the_search_reported(
    eqnet: Command, small_task: str, finished_run: Path, artifact: Path
) -> None:
    accuracy = SearchResult.load(finished_run / "result.json").accuracy
    for data, reported in (("test", accuracy.test), ("validation", accuracy.validation)):
        figures = _json(eqnet("eval", artifact, "--task", small_task, "--data", data, "--json"))
        assert figures["reported"] == reported
        assert figures["accuracy"] == reported, "of 128 samples, one is more than a tenth of a point"
        assert figures["samples"] == 128
        assert figures["runs"] == "one integer program"
    ended = eqnet("eval", artifact, "--task", small_task)
    assert "(+0.00 points)" in ended.out


def test_eval_of_a_network_that_was_not_judged_says_nothing_of_the_search(
    eqnet: Command, small_task: str, copied_run: Path, tmp_path: Path
) -> None:
    assert eqnet("export", copied_run, "-o", tmp_path / "out", "--uniform", "3").status == 0
    figures = _json(eqnet("eval", tmp_path / "out", "--task", small_task, "--json"))
    expected = _json(eqnet("eval", copied_run, "--uniform", "3", "--json"))
    assert figures["reported"] is None
    assert figures["accuracy"] == expected["accuracy"]
    assert figures["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_code_that_an_artifact_names_is_never_run(
    eqnet: Command, copied_run: Path, artifact: Path, small_task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []
    monkeypatch.setattr("eqnet.tasks.loading._module_of_file", lambda spec, file: imported.append(spec))
    refused(eqnet("eval", artifact), str(artifact), f"give --task {small_task}", "if you trust it")
    assert not imported


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--task", f"{TASKS}:without_norm"), ("was made for the task 'quadrants', not 'without-norm'",)),
        (("--task", "digits"), ("was made for the task 'quadrants', not 'digits'",)),
        (("--task", f"{TASKS}:nothing"), ("its module has no nothing",)),
        (("--uniform", "4"), ("holds one network",)),
        (("--data", "training"), ("'training' is not one of",)),
    ],
    ids=["other-task", "built-in-task", "no-such-task", "uniform", "other-data"],
)
def test_eval_refuses_what_does_not_fit_the_artifact(
    eqnet: Command, artifact: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(eqnet("eval", artifact, *options), *words)


def test_eval_of_a_run_takes_no_task(eqnet: Command, finished_run: Path, small_task: str) -> None:
    refused(eqnet("eval", finished_run, "--task", small_task), "leave out --task")


def test_inspect_tells_an_artifact_from_its_files_alone(eqnet: Command, finished_run: Path, artifact: Path) -> None:
    result = SearchResult.load(finished_run / "result.json")
    summary = _json(eqnet("inspect", artifact, "--json"))
    assert summary["bytes"] == result.cost.bytes
    assert summary["bytes"] + summary["overhead"] == sum(path.stat().st_size for path in artifact.iterdir())
    assert summary["bpw"] == pytest.approx(result.cost.bpw)
    assert [layer["name"] for layer in summary["layers"]] == ["0", "3", "6", "9", "11"]
    assert [layer["bytes"] for layer in summary["layers"]] == [layer.bytes for layer in result.layers]
    assert [layer["folded"] for layer in summary["layers"]] == [["1"], ["4"], [], [], []]
    assert summary["floating"] == {}
    assert summary["origin"]["input"] == {"shape": [1, 6, 6], "dtype": "float32", "normalization": None}
    table = eqnet("inspect", artifact).out
    for layer in summary["layers"]:
        assert layer["weight"] in table
        assert f"{layer['bytes']:,}" in table
    assert "every checksum agrees" in table


def _flip_last_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_flip_last_byte, ("model.safetensors", "tensor")),
        (lambda folder: (folder / "config.json").unlink(), ("has no config.json",)),
        (lambda folder: (folder / "config.json").write_text("{}"), ("config.json", "is not quantized")),
        (lambda folder: (folder / "model.safetensors").unlink(), ("model.safetensors: is missing",)),
    ],
    ids=["flipped-bit", "no-config", "other-config", "no-tensors"],
)
@pytest.mark.parametrize("verb", ["inspect", "eval"])
def test_damaged_artifact_is_refused_by_name(
    eqnet: Command, copied: Path, small_task: str, verb: str, damage, words: tuple[str, ...]
) -> None:
    damage(copied)
    refused(eqnet(verb, copied, *(("--task", small_task) if verb == "eval" else ())), *words)


def test_folder_with_brackets_in_its_name_is_printed_as_it_is(eqnet: Command, artifact: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(artifact, tmp_path / "[red]mine[" / "]")
    assert f"│ {folder} │" in " ".join(eqnet("inspect", folder).out.split())


def test_folder_that_is_neither_run_nor_artifact_is_named(eqnet: Command, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refused(eqnet("inspect", tmp_path), str(tmp_path), "holds neither a search result nor an artifact")


def test_built_in_task_needs_no_code_of_the_user(
    eqnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eqnet.tasks.digits._RECIPE", Recipe(epochs=3, peak_rate=0.05, batch_size=64))
    common = ("--task", "digits", "--out", tmp_path / "run", "--epochs", "0")
    assert eqnet("train", *common).status == 0
    ended = eqnet("export", tmp_path / "run", "-o", tmp_path / "out", "--uniform", "4")
    assert ended.status == 0, ended.err
    figures = _json(eqnet("eval", tmp_path / "out", "--json"))
    expected = _json(eqnet("eval", tmp_path / "run", "--uniform", "4", "--json"))
    assert figures["accuracy"] == pytest.approx(expected["accuracy"], abs=0.001)
    assert figures["samples"] == 359
    assert torch.isfinite(load(tmp_path / "out")(torch.zeros(2, 1, 8, 8))).all()


def test_network_with_inputs_in_floating_point_runs_layer_by_layer(
    eqnet: Command, small_task: str, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    common = ("train", "--task", small_task, "--epochs", "0", "--space", "w=4:group16:sym a=float edge=none")
    assert eqnet(*common, "--out", run).status == 0
    exported = _json(eqnet("export", run, "-o", out, "--uniform", "4", "--json"))
    assert exported["runs"].startswith("layer by layer (layer '0' reads floating point (int4:group16 × float);")
    expected = _json(eqnet("eval", run, "--uniform", "4", "--json"))
    exact = _json(eqnet("eval", out, "--task", small_task, "--json"))
    assert exact["accuracy"] == expected["accuracy"]
    assert exact["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    rounded = _json(eqnet("eval", out, "--task", small_task, "--compute", "int8", "--json"))
    assert rounded["loss"] != exact["loss"]
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.1)
    assert rounded["runs"] == exact["runs"] == exported["runs"]
