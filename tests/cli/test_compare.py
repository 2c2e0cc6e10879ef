"""``eqnet compare``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eqnet import load
from eqnet.packed.model import PackedModel
from tests.cli.command import TASKS, Command, Ended, refused
from tests.cli.small_tasks import _data, _network

NAMES = ["0", "3", "6", "9", "11"]


def _json(ended: Ended):
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


@pytest.fixture
def damaged(artifact: Path, tmp_path: Path) -> Path:
    """The same artifact, with a tenth more scale in one channel of layer 6."""
    packed = load(artifact, _network)
    scale = packed.layers["6"].scale.clone()
    scale[4] *= 1.1
    packed.layers["6"].scale = scale
    packed.save(tmp_path / "damaged")
    return tmp_path / "damaged"


def test_run_and_its_artifact_agree_layer_by_layer(
    eqnet: Command, small_task: str, finished_run: Path, artifact: Path
) -> None:
    found = _json(eqnet("compare", finished_run, artifact, "--json"))
    assert [layer["name"] for layer in found["layers"]] == NAMES
    assert found["departs"] is None
    assert not any(layer["departs"] for layer in found["layers"])
    assert found["samples"] == 128
    assert found["agreement"] == 1
    assert found["a"]["runs"] == "the supernet, in fake quantization"
    assert found["b"]["runs"] == "one integer program"
    evaluated = _json(eqnet("eval", artifact, "--task", small_task, "--json"))["accuracy"]
    assert found["a"]["accuracy"] == found["b"]["accuracy"] == pytest.approx(evaluated)


def test_damaged_layer_is_named(eqnet: Command, small_task: str, artifact: Path, damaged: Path) -> None:
    common = ("compare", artifact, damaged, "--task", small_task, "--samples", "70")
    found = _json(eqnet(*common, "--json"))
    assert [layer["name"] for layer in found["layers"] if layer["departs"]] == ["6"]
    assert found["departs"] == "6"
    assert (found["samples"], found["layer_samples"]) == (70, 64)
    packed, wrong = load(artifact, _network), load(damaged, _network)
    rows = np.arange(70) * 128 // 70
    x = _data(128, 3).tensors[0][torch.from_numpy(rows)]
    assert found["largest"] == pytest.approx((packed(x) - wrong(x)).abs().max().item(), rel=0.01)
    ended = eqnet(*common)
    assert ended.status == 0, ended.err
    assert "The first layer that departs is '6':" in ended.out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in ended.out.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows if row[-1] == "yes"] == ["6"]
    assert [row[:3] for row in rows if row[0] == "0"] == [["0", "uint8:channel", "uint8:tensor"]]


def test_inputs_of_a_file_need_no_labels(
    eqnet: Command, small_task: str, artifact: Path, damaged: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", _data(5, 9).tensors[0].numpy())
    common = ("compare", artifact, damaged, "--task", small_task, "--input", tmp_path / "x.npy")
    found = _json(eqnet(*common, "--json"))
    assert (found["samples"], found["a"]["accuracy"], found["departs"]) == (5, None, "6")
    table = eqnet(*common).out
    assert "Outputs on 5 inputs" in table
    assert "accuracy" not in table


def test_pairs_that_are_no_pair_are_refused(
    eqnet: Command, small_task: str, finished_run: Path, artifact: Path, tmp_path: Path
) -> None:
    refused(eqnet("compare", artifact, finished_run, "--task", f"{TASKS}:without_norm"), "not 'without-norm'")
    refused(eqnet("compare", artifact, artifact), f"give --task {small_task}")
    refused(eqnet("compare", artifact, tmp_path / "no.onnx", "--task", small_task), "no.onnx: there is no such file")
    refused(eqnet("compare", tmp_path, artifact), str(tmp_path), "holds no search result")
    packed = load(artifact, _network)
    metadata = {**packed.record.metadata, "task": {"spec": "digits", "name": "digits", "seed": 0}}
    PackedModel(packed.model, replace(packed.record, metadata=metadata)).save(tmp_path / "other")
    refused(eqnet("compare", finished_run, tmp_path / "other"), "made for the task 'digits', not 'quadrants'")


def test_network_beside_itself_is_the_same(eqnet: Command, finished_run: Path) -> None:
    found = _json(eqnet("compare", finished_run, finished_run, "--samples", "8", "--json"))
    assert found["largest"] == 0
    assert all(layer["largest"] == 0 for layer in found["layers"])
