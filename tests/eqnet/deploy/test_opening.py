"""Opening artifacts, with and without their tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import eqnet
from eqnet import Choices
from eqnet.deploy.opening import is_artifact, open_artifact
from eqnet.deploy.origin import Origin
from eqnet.errors import InputError, RunError
from eqnet.tasks import load_task
from eqnet.tasks.networks import DigitsNet

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from eqnet import Task

data = TensorDataset(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64))
own = Task("own", nn.Sequential(nn.Linear(5, 3)), data, data, data)
"""


def _saved(folder: Path, model: nn.Module, x: torch.Tensor, metadata: dict | None = None) -> Path:
    torch.manual_seed(0)
    supernet = eqnet.elasticize(model, Choices(), x)
    supernet.calibrate([x])
    subnet = supernet.space.subnet([0] * len(supernet.space.sets))
    eqnet.pack(supernet, subnet, metadata=metadata).save(folder)
    return folder


def test_network_of_eqnet_needs_no_task_and_says_nothing_if_it_was_saved_so(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "a", DigitsNet(), torch.randn(2, 1, 8, 8))
    opened = open_artifact(folder)
    assert opened.origin is None
    assert opened.task is None
    assert opened.packed(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    with pytest.raises(InputError, match="does not say what task it is of; give --task"):
        open_artifact(folder, with_task=True)
    assert open_artifact(folder, "digits", cache=tmp_path / "cache").task is not None


def test_built_in_task_is_loaded_without_training(tmp_path: Path) -> None:
    origin = Origin("digits", "digits", 0, (1, 8, 8), torch.float32)
    folder = _saved(tmp_path / "a", DigitsNet(), torch.randn(2, 1, 8, 8), origin.to_json())
    opened = open_artifact(folder, cache=tmp_path / "cache", with_task=True)
    assert opened.task is not None
    assert opened.task.name == "digits"
    assert opened.task.normalization is not None
    assert not (tmp_path / "cache").exists(), "nothing was trained"


def test_own_model_is_that_of_the_task_which_the_user_names(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TASK)
    spec = f"{tmp_path}/own.py:own"
    task = load_task(spec, cache=tmp_path, seed=0)
    folder = _saved(tmp_path / "a", task.model, torch.randn(4, 5), Origin.of(task, spec, 0).to_json())
    with pytest.raises(InputError, match=r"give --task .*own\.py:own, or model= to eqnet\.load"):
        open_artifact(folder)
    opened = open_artifact(folder, spec)
    assert opened.packed(torch.zeros(1, 5)).shape == (1, 3)
    unnamed = _saved(tmp_path / "b", task.model, torch.randn(4, 5))
    with pytest.raises(InputError, match="cannot build by itself; give --task"):
        open_artifact(unnamed)


def test_damaged_metadata_are_refused_by_name(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "a", DigitsNet(), torch.randn(2, 1, 8, 8), {"task": "digits"})
    with pytest.raises(RunError, match=r"config\.json: its metadata do not describe a task"):
        open_artifact(folder)


def test_artifacts_are_told_from_runs_by_their_files(tmp_path: Path) -> None:
    for name, files, expected in (
        ("run", ["run.json", "checkpoint.safetensors"], False),
        ("result", ["result.json"], False),
        ("artifact", ["config.json", "model.safetensors"], True),
        ("shards", ["model-00001-of-00002.safetensors"], True),
        ("both", ["run.json", "config.json"], False),
        ("replaced", [".eqnet-written/config.json"], True),
        ("empty", [], False),
    ):
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(json.dumps({}))
        assert is_artifact(tmp_path / name) is expected, name
