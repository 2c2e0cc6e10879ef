"""Pretraining learns, repeats itself, keeps its weights and leaves global random state alone."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from eqnet.errors import RunError
from eqnet.tasks.pretraining import Recipe, pretrained

RECIPE = Recipe(epochs=3, peak_rate=0.05, batch_size=16)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


def wider_network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2))


@pytest.fixture
def data() -> TensorDataset:
    inputs = torch.randn(320, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, (inputs[:, 0] > inputs[:, 1]).long())


def run(cache: Path, data: TensorDataset, *, build=network, recipe: Recipe = RECIPE, seed: int = 0) -> nn.Module:
    return pretrained(build, data, recipe, name="net", seed=seed, cache=cache)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    inputs, labels = data.tensors
    return (model(inputs).argmax(1) == labels).float().mean().item()


def test_it_learns_and_returns_an_evaluating_network(tmp_path: Path, data: TensorDataset) -> None:
    trained = run(tmp_path, data, recipe=Recipe(epochs=10, peak_rate=0.1, batch_size=16))
    assert accuracy(trained, data) > 0.95
    assert not any(module.training for module in trained.modules())


def test_the_second_call_reads_the_weights_instead_of_training(
    tmp_path: Path, data: TensorDataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eqnet")
    first = run(tmp_path, data)
    assert [record.getMessage().split(":")[0] for record in caplog.records].count("training net") == RECIPE.epochs
    caplog.clear()
    assert same(first, run(tmp_path, data))
    assert not caplog.records


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path: Path, data: TensorDataset) -> None:
    first = run(tmp_path / "a", data)
    assert same(first, run(tmp_path / "b", data))
    assert not same(first, run(tmp_path / "a", data, seed=1))


def test_global_random_state_neither_matters_nor_changes(tmp_path: Path, data: TensorDataset) -> None:
    first = run(tmp_path / "a", data)
    torch.manual_seed(123)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    assert same(first, run(tmp_path / "b", data))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True))
    assert random.getstate() == before[2]


def test_whatever_decides_the_weights_has_a_file_of_its_own(tmp_path: Path, data: TensorDataset) -> None:
    inputs, labels = data.tensors
    run(tmp_path, data)
    run(tmp_path, data, seed=1)
    run(tmp_path, data, recipe=Recipe(epochs=2, peak_rate=0.05, batch_size=16))
    run(tmp_path, data, recipe=Recipe(epochs=3, peak_rate=0.04, batch_size=16))
    run(tmp_path, data, build=wider_network)
    run(tmp_path, TensorDataset(inputs, 1 - labels))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 6
    assert all(name.startswith("net-") and name.endswith(".safetensors") for name in names)
    assert sum("-seed1-" in name for name in names) == sum("-2epochs-" in name for name in names) == 1


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _rewrite_without_header(path: Path) -> None:
    save_file(load_file(path), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "cannot be read ("),
        (_empty, "cannot be read ("),
        (_flip_a_bit, "has damaged weights"),
        (_rewrite_without_header, "holds the weights of something else"),
    ],
)
def test_a_damaged_or_foreign_file_is_made_again_with_a_warning(
    tmp_path: Path, data: TensorDataset, caplog: pytest.LogCaptureFixture, damage, message: str
) -> None:
    first = run(tmp_path, data)
    (path,) = tmp_path.iterdir()
    damage(path)
    assert same(first, run(tmp_path, data))
    assert same(first, run(tmp_path, data))  # from the file, which is whole again: it warns but once
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith(f"{path}: {message}")
    assert record.getMessage().endswith("; training net again")


def test_weights_of_another_seed_are_not_taken_for_these(tmp_path: Path, data: TensorDataset) -> None:
    first, other = run(tmp_path / "a", data), run(tmp_path / "b", data, seed=1)
    (path,), (foreign,) = (tmp_path / "a").iterdir(), (tmp_path / "b").iterdir()
    path.write_bytes(foreign.read_bytes())
    again = run(tmp_path / "a", data)
    assert same(first, again)
    assert not same(other, again)


def test_a_cache_that_cannot_be_a_folder_is_refused_before_the_training(tmp_path: Path, data: TensorDataset) -> None:
    calls = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            return super().forward(x)

    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file: cannot be made a folder \(File exists\); choose another cache folder"):
        run(tmp_path / "file", data, build=lambda: Watched(4, 2))
    assert not calls


def test_training_data_smaller_than_a_batch_still_trains(tmp_path: Path, data: TensorDataset) -> None:
    few = TensorDataset(*(tensor[:3] for tensor in data.tensors))
    trained = run(tmp_path, few, recipe=Recipe(epochs=1))
    assert all(p.isfinite().all() for p in trained.parameters())
