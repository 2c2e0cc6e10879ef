"""Batches that depend on a seed and a step alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from eqnet import InputError
from eqnet.data import Shuffled, batches, calibration_inputs, fingerprint, in_order, length
from tests.search.small import points, small_task


class Noisy(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(2) + float(np.random.rand()) + random.random(), index


def test_every_epoch_shows_every_sample_once_in_an_order_of_its_own() -> None:
    plan = Shuffled(10, 3, seed=0)
    assert plan.steps_per_epoch == 3
    steps = list(plan.steps(0, 6))
    epochs = [np.concatenate(steps[:3]), np.concatenate(steps[3:])]
    assert all(len(np.unique(epoch)) == 9 for epoch in epochs)
    assert not np.array_equal(*epochs)


@pytest.mark.parametrize("first", [1, 2, 3, 5])
def test_steps_are_the_same_wherever_they_begin(first: int) -> None:
    plan = Shuffled(10, 3, seed=4)
    whole = list(plan.steps(0, 7))
    assert all(np.array_equal(a, b) for a, b in zip(whole[first:], plan.steps(first, 7), strict=True))


def test_a_small_dataset_makes_smaller_batches_and_an_empty_one_is_refused() -> None:
    assert [len(step) for step in Shuffled(3, 8, seed=0).steps(0, 2)] == [3, 3]
    with pytest.raises(InputError, match="the training data is empty"):
        Shuffled(0, 8, seed=0)


@pytest.mark.parametrize(
    ("count", "size", "limit", "expected"),
    [
        (5, 2, None, [[0, 1], [2, 3], [4]]),
        (5, 10, None, [[0, 1, 2, 3, 4]]),
        (10, 3, 5, [[0, 2, 4], [6, 8]]),
        (3, 2, 10, [[0, 1], [2]]),
        (0, 2, None, []),
        (0, 2, 4, []),
    ],
)
def test_a_limit_spreads_over_the_data(count: int, size: int, limit: int | None, expected: list[list[int]]) -> None:
    dataset = TensorDataset(torch.zeros(count, 1))
    assert [chosen.tolist() for chosen in in_order(dataset, size, limit)] == expected


def test_a_dataset_without_a_length_is_refused() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    with pytest.raises(InputError, match="Stream has no length"):
        length(Stream())


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_follows_the_seed_and_the_number_of_the_batch(workers: int) -> None:
    chosen = [np.array([0, 1]), np.array([2, 3]), np.array([4])]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[union-attr,index]
    whole = list(batches(Noisy(), chosen, seed=7))
    later = list(batches(Noisy(), chosen[1:], seed=7, first=1, workers=workers))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[1:], later, strict=True))
    assert not torch.equal(whole[0][0], next(iter(batches(Noisy(), chosen[:1], seed=8)))[0])
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # type: ignore[index]


def test_nested_samples_are_collated_and_moved() -> None:
    class Nested(Dataset[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return {"x": torch.full((2,), float(index)), "name": str(index)}, (index, torch.tensor(index))

    ((inputs, targets),) = list(batches(Nested(), [np.array([0, 1])]))
    assert inputs["x"].tolist() == [[0, 0], [1, 1]]
    assert inputs["name"] == ["0", "1"]
    assert [t.tolist() for t in targets] == [[0, 1], [0, 1]]


def test_calibration_data_is_the_users_own_or_spread_over_the_training_data() -> None:
    task = small_task()
    spread = torch.cat(calibration_inputs(task, "cpu", 64))
    assert torch.equal(spread, task.train.tensors[0][::4])  # type: ignore[attr-defined]
    own = points(20, 9)
    assert torch.equal(torch.cat(calibration_inputs(replace(task, calibration=own), "cpu")), own.tensors[0])


@pytest.mark.parametrize("count", [1, 255, 257, 300, 513])
def test_calibration_batches_weigh_alike(count: int) -> None:
    """Batch norm takes the mean over batches, and refuses a batch of one sample beside others."""
    task = replace(small_task(), calibration=points(count, 9))
    sizes = [len(batch) for batch in calibration_inputs(task, "cpu", 1024)]
    assert sum(sizes) == count
    assert max(sizes) <= 256
    assert max(sizes) - min(sizes) <= len(sizes)


def test_the_fingerprint_knows_the_data_but_not_the_test_data() -> None:
    task = small_task()
    same = replace(task, test=points(5, 5))
    others = [
        replace(task, train=points(256, 7)),
        replace(task, validation=points(127, 1)),
        replace(task, calibration=points(9, 9)),
    ]
    assert fingerprint(same) == fingerprint(task)
    assert len({fingerprint(t) for t in [task, *others]}) == 4
