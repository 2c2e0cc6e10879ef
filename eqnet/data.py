"""Batches that depend on a seed and a step alone, so that any step can be resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from eqnet.errors import InputError
from eqnet.randomness import seeded

if TYPE_CHECKING:
    from eqnet.tasks.task import Task

CALIBRATION_SAMPLES = 256
"""Samples that ranges are set on, and batch norm is re-estimated on while many subnets are compared."""

BATCH_NORM_SAMPLES = 512
"""Samples that batch norm is re-estimated on where a figure is reported: on 256 its noise costs a tenth of a point."""

Indices = np.ndarray[Any, np.dtype[np.int64]]


def length(dataset: Dataset[Any]) -> int:
    """Number of samples; raises InputError for a dataset without a length (an iterable one)."""
    try:
        return len(dataset)  # type: ignore[arg-type]  # Dataset does not declare it; map-style ones have it
    except TypeError as e:
        raise InputError(f"{type(dataset).__name__} has no length; give a map-style dataset, with len() and []") from e


def batches(
    dataset: Dataset[Any],
    indices: Sequence[Indices],
    device: torch.device | str = "cpu",
    *,
    seed: int = 0,
    first: int = 0,
    workers: int = 0,
) -> Iterator[Any]:
    """The samples at each array of indices, collated and on ``device``.

    Random augmentation in the dataset follows ``seed`` and the number of the batch, in whichever process it runs.

    Args:
        dataset: map-style.
        indices: one array a batch.
        device: where tensors go.
        seed: of the dataset's own randomness.
        first: number of the first batch.
        workers: processes that load.
    """
    if type(dataset) is TensorDataset:
        for chosen in indices:
            picked = torch.from_numpy(chosen)
            yield [tensor[picked].to(device) for tensor in dataset.tensors]
        return
    numbered = [(seed, number, chosen) for number, chosen in enumerate(indices, start=first)]
    loader: DataLoader[Any] = DataLoader(
        _SeededBatches(dataset),
        batch_sampler=numbered,  # type: ignore[arg-type]  # each "batch of indices" is what __getitems__ takes
        num_workers=workers,
        generator=torch.Generator(),
    )
    for batch in loader:
        yield _to(batch, device)


def in_order(dataset: Dataset[Any], size: int, limit: int | None = None) -> list[Indices]:
    """Indices of ``limit`` samples (all if None), rising, in arrays of ``size``; the last may be shorter.

    They are spread over the whole dataset, which may be sorted by class.
    """
    count = length(dataset)
    taken = count if limit is None else min(limit, count)
    chosen = np.arange(taken, dtype=np.int64) * count // max(taken, 1)
    return [chosen[i : i + size] for i in range(0, taken, size)]


def calibration_inputs(task: Task, device: torch.device | str, samples: int = CALIBRATION_SAMPLES) -> list[Any]:
    """The inputs, in batches, that ranges and batch norm are computed on: few, so they stay in memory."""
    dataset = task.calibration if task.calibration is not None else task.train
    taken = min(samples, length(dataset))
    # Batches of one size, as batch norm weighs them alike and takes none of a single sample.
    size = -(-taken // max(-(-taken // 256), 1))
    return [batch[0] for batch in batches(dataset, in_order(dataset, max(size, 1), samples), device)]


def fingerprint(task: Task, limit: int = 4096) -> str:
    """A hash of up to ``limit`` samples of each part of the data that training and search see, hexadecimal."""
    digest = hashlib.sha256()
    for dataset in (task.train, task.validation, task.calibration):
        if dataset is None:
            continue
        digest.update(str(length(dataset)).encode())
        for batch in batches(dataset, in_order(dataset, 256, limit)):
            for value in batch:
                tensor = torch.as_tensor(value).contiguous()
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Shuffled:
    """The indices of every training step: each epoch is a new permutation, the rest of a batch is dropped.

    Args:
        count: samples in the dataset.
        batch_size: samples in a step; at most ``count``.
        seed: chooses the permutations.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if count < 1:
            raise InputError("the training data is empty; give at least one sample")
        self.count, self.batch_size, self.seed = count, min(batch_size, count), seed
        self.steps_per_epoch = count // self.batch_size

    def steps(self, first: int, last: int) -> Iterator[Indices]:
        """Indices of steps ``first`` to ``last - 1``, int64 [batch_size] each."""
        for step in range(first, last):
            epoch, position = divmod(step, self.steps_per_epoch)
            if step == first or position == 0:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
            yield order[position * self.batch_size : (position + 1) * self.batch_size]


class _SeededBatches(Dataset[Any]):
    """Loads a whole batch at a time, under a seed of its own."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitems__(self, batch: tuple[int, int, Indices]) -> list[Any]:
        seed, number, indices = batch
        with seeded(seed, number):
            return [self.dataset[int(i)] for i in indices]


def _to(batch: Any, device: torch.device | str) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: _to(value, device) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [_to(value, device) for value in batch]
    return batch
