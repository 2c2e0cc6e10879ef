"""The digits task trains in seconds, splits the same way every time and leaves room for bad formats to show."""

from __future__ import annotations

import copy
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eqnet.errors import InputError
from eqnet.tasks import Task, load_task

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def task(cache: Path) -> Task:
    return load_task("digits", cache=cache, seed=0)


def splits(task: Task) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [dataset.tensors for dataset in (task.train, task.validation, task.test)]


@torch.no_grad()
def accuracy(task: Task, model: nn.Module) -> float:
    images, labels = task.test.tensors
    return 100 * task.metric(model(images), labels).float().mean().item()


def test_the_network_is_good_enough_to_be_worth_quantizing(task: Task) -> None:
    assert accuracy(task, task.model) >= 97.5


def test_rounding_weights_to_2_bits_costs_much_and_to_8_bits_nothing(task: Task) -> None:
    def rounded(bits: int) -> nn.Module:
        model = copy.deepcopy(task.model)
        for p in model.parameters():
            if p.ndim > 1:
                scale = p.abs().max() / (2 ** (bits - 1) - 1)
                p.data = (p / scale).round() * scale
        return model

    reference = accuracy(task, task.model)
    assert abs(accuracy(task, rounded(8)) - reference) < 1
    assert accuracy(task, rounded(2)) < reference - 20


def test_splits_share_no_image_and_hold_every_class_equally(task: Task) -> None:
    parts = splits(task)
    assert [len(labels) for _, labels in parts] == [1079, 359, 359]
    images = torch.cat([images for images, _ in parts])
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    assert len(images.flatten(1).unique(dim=0)) == 1797  # the data set has no duplicates, so nothing is in two parts
    total = torch.cat([labels for _, labels in parts]).bincount()
    for share, (_, labels) in zip((0.6, 0.2, 0.2), parts, strict=True):
        assert (labels.bincount(minlength=10) - share * total).abs().max() < 2
    first = parts[0][1][:256].bincount(minlength=10)
    assert first.min() > 15  # what calibration sees is mixed


def test_inputs_are_normalized(task: Task) -> None:
    images = torch.cat([images for images, _ in splits(task)])
    assert images.mean().abs() < 1e-3
    assert (images.std() - 1).abs() < 1e-3


def test_splits_do_not_depend_on_the_seed_but_weights_do(
    task: Task, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eqnet.tasks.pretraining.fit", lambda *_, **__: None)
    other = load_task("digits", cache=cache / "untrained", seed=1)
    for (images, labels), (others, other_labels) in zip(splits(task), splits(other), strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)
    assert not torch.equal(task.model.fc.weight, other.model.fc.weight)


def test_loading_leaves_global_state_alone_and_reads_the_cache(task: Task, cache: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in cache.glob("*.safetensors")}
    before = torch.get_rng_state(), np.random.get_state(), random.getstate(), torch.get_num_threads()
    again = load_task("digits", cache=cache, seed=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True))
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == before[3]
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.safetensors")} == files
    for (name, a), b in zip(task.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_without_scikit_learn_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"the task digits needs scikit-learn \(.*\); pip install scikit-learn$"):
        load_task("digits", cache=tmp_path, seed=0)
