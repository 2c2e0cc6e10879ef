"""Checks of what a Task holds, so that a mistake in it shows before any work."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

from eqnet.errors import InputError
from eqnet.tasks.task import Normalization, Task
from eqnet.tasks.user_code import explained, kind_of


def validate(task: Task) -> None:
    """Checks what can be checked without running the model.

    Reads the first sample of each data set.

    Raises:
        InputError: a field of ``task`` cannot be used; the message names it and says what it must be.
    """
    if not isinstance(task.name, str) or not re.fullmatch(r"\w[\w.+-]*", task.name):
        raise InputError(
            f"task {task.name!r}: its name must be letters, digits, '_', '-', '+' or '.', for it names a folder"
        )
    prefix = f"task '{task.name}': "
    if not isinstance(task.model, nn.Module):
        raise InputError(f"{prefix}model is {kind_of(task.model)}, not an nn.Module; give the trained model itself")
    for field in ("train", "validation", "test"):
        _validate_dataset(prefix, field, getattr(task, field))
    if task.calibration is not None:
        _validate_dataset(prefix, "calibration", task.calibration)
    for field in ("loss", "metric"):
        function = getattr(task, field)
        if not callable(function):
            raise InputError(f"{prefix}{field} is {kind_of(function)}; give a function of (outputs, targets)")
    for field, least in (("batch_size", 1), ("epochs", 0), ("workers", 0)):
        value = getattr(task, field)
        if not isinstance(value, int) or value < least:
            raise InputError(f"{prefix}{field} is {value!r}; give a whole number of at least {least}")
    if task.normalization is not None and not isinstance(task.normalization, Normalization):
        raise InputError(f"{prefix}normalization is {kind_of(task.normalization)}; give a Normalization, or None")
    rate = task.learning_rate
    if not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise InputError(f"{prefix}learning_rate is {rate!r}; give a positive number")


def _validate_dataset(prefix: str, field: str, dataset: Any) -> None:
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise InputError(f"{prefix}{field} is {kind_of(dataset)}; give a map-style dataset, with len() and []")
    with explained(f"{prefix}len({field})"):
        count = len(dataset)
    if count == 0:
        raise InputError(f"{prefix}{field} is empty; give at least one sample")
    with explained(f"{prefix}reading {field}[0]"):
        sample = dataset[0]
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        got = f"{kind_of(sample)} of {len(sample)}" if isinstance(sample, (tuple, list)) else kind_of(sample)
        raise InputError(f"{prefix}{field}[0] is {got}, not an (input, target) pair; return two values from [] of it")
    try:
        torch.as_tensor(sample[0])
    except (TypeError, ValueError, RuntimeError) as e:
        raise InputError(
            f"{prefix}the input of {field}[0] is {kind_of(sample[0])}, not a tensor ({e}); convert it in the dataset"
        ) from e
