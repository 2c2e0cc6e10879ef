"""What a model is worth on a task's data, just as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from eqnet.data import batches, in_order, length
from eqnet.errors import ModelError
from eqnet.tasks.task import Task

BATCH = 256
"""Samples in one forward pass."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Score:
    """Means over the samples."""

    accuracy: float
    loss: float
    samples: int


def score(run: Callable[[Tensor], Tensor], task: Task, dataset: Dataset[Any], report: Report | None = None) -> Score:
    """Accuracy and loss of ``run``, from a batch of inputs to outputs, on all samples of ``dataset``.

    Raises:
        ModelError: the outputs hold inf or NaN.
    """
    total = torch.zeros(2, dtype=torch.float64)
    done, count = 0, length(dataset)
    for inputs, targets in batches(dataset, in_order(dataset, BATCH)):
        outputs = run(inputs)
        size = len(outputs)
        values = task.metric(outputs, targets).float().mean().item(), task.loss(outputs, targets).item()
        total += size * torch.tensor(values, dtype=torch.float64)
        done += size
        if report is not None:
            report("Running the model", done, count)
    accuracy, loss = (total / done).tolist()
    if not abs(loss) < float("inf"):
        raise ModelError("the model's outputs hold inf or NaN; check the data")
    return Score(accuracy, loss, done)
