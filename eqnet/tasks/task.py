"""What eqnet needs to know of a user's problem: a trained model, data and a metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from eqnet.errors import InputError
from eqnet.randomness import seeded


def top1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether each sample's largest output is its label: bool [N] from [N, classes] and [N]."""
    return outputs.argmax(dim=-1) == targets


@dataclass(frozen=True)
class Normalization:
    """How the pixels of an image, from 0 to 1, become inputs: ``(pixel - mean) / std``.

    Attributes:
        mean, std: of each channel, or one for all channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises InputError if a value is not finite, or a deviation not above zero."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not isinstance(values, tuple) or not values or not all(_is_finite(value) for value in values):
                raise InputError(f"{name} is {values!r}; give finite numbers, one for each channel or one for all")
        if min(self.std) <= 0:
            raise InputError(f"std is {self.std!r}; deviations are above zero")


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast("float", value))


@dataclass(frozen=True)
class Task:
    """A trained model, its data and what is good.

    The search sees ``validation`` only; ``test`` is read once, for the final report.

    Attributes:
        name: as it appears in reports and in the name of the run folder.
        model: trained, in floating point; eqnet works on a copy.
        train, validation, test: map-style datasets of (input, target) pairs.
        calibration: dataset for ranges and batch norm; training samples if None.
        loss: (outputs [N, ...], targets [N, ...]) → mean loss, a scalar.
        metric: (outputs, targets) → a score for each sample, [N], higher is better; its mean is the accuracy.
        batch_size: samples per training step.
        epochs: how long the supernet trains unless the user says otherwise.
        learning_rate: peak rate of the cosine schedule for the model's own weights.
        workers: processes that load data; 0 loads in the main one.
        normalization: what the datasets do to the pixels of an image; None if inputs are no images, or unsaid.
    """

    name: str
    model: nn.Module
    train: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]
    calibration: Dataset[Any] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = field(default=F.cross_entropy)
    metric: Callable[[Tensor, Tensor], Tensor] = field(default=top1)
    batch_size: int = 128
    epochs: int = 2
    learning_rate: float = 1e-3
    workers: int = 0
    normalization: Normalization | None = None

    def example_inputs(self) -> Tensor:
        """One training input as a batch of 1, the same each time, also from a dataset that augments at random."""
        with seeded(0):
            sample: Tensor = self.train[0][0]
        return torch.as_tensor(sample).unsqueeze(0)
