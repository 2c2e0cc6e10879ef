"""What a subnet is worth, measured: its divergence, loss and accuracy on real data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from eqnet.data import BATCH_NORM_SAMPLES, CALIBRATION_SAMPLES, batches, calibration_inputs, in_order
from eqnet.errors import ModelError
from eqnet.formats import LayerFormat
from eqnet.losses import divergence
from eqnet.search.store import Measurement
from eqnet.supernet import Supernet
from eqnet.tasks.task import Task

BATCH = 256
"""Samples in one forward pass."""


class Judge:
    """Measures subnets of one supernet on one data set, always with re-estimated batch norm.

    The divergence is that of the subnet's outputs from those of the supernet in floating point, on the same
    samples: it has no noise from labels, so few samples rank subnets well.

    Args:
        supernet: calibrated.
        task: gives loss, metric and calibration data.
        dataset: what to measure on.
        samples: as many are used, spread over the data, and batch norm is re-estimated on fewer too; all if None.
    """

    def __init__(self, supernet: Supernet, task: Task, dataset: Dataset[Any], samples: int | None = None) -> None:
        self._supernet, self._task = supernet, task
        device = next(supernet.parameters()).device
        self._calibration = calibration_inputs(
            task, device, BATCH_NORM_SAMPLES if samples is None else CALIBRATION_SAMPLES
        )
        self._batches: list[Sequence[Any]] = list(batches(dataset, in_order(dataset, BATCH, samples), device))

    @cached_property
    def _reference(self) -> list[Tensor]:
        return self._outputs(None)

    def measure(self, subnet: Mapping[str, LayerFormat] | None) -> Measurement:
        """Divergence and loss, means over the samples, and accuracy of ``subnet`` (floating point if None).

        Raises:
            ModelError: the outputs hold inf or NaN.
        """
        total = torch.zeros(3, dtype=torch.float64)
        count = 0
        for (_, targets), reference, outputs in zip(self._batches, self._reference, self._outputs(subnet), strict=True):
            size = len(outputs)
            values = (
                divergence(outputs, reference).item(),
                self._task.loss(outputs, targets).item(),
                self._task.metric(outputs, targets).float().mean().item(),
            )
            total += size * torch.tensor(values, dtype=torch.float64)
            count += size
        mean = (total / count).tolist()
        if not all(abs(value) < float("inf") for value in mean):
            raise ModelError("a subnet's outputs hold inf or NaN; check the validation data")
        return Measurement(divergence=mean[0], loss=mean[1], accuracy=mean[2])

    def accuracy(self, subnet: Mapping[str, LayerFormat] | None) -> float:
        """Accuracy alone, which needs no outputs in floating point beside those of ``subnet``."""
        return self._accuracy(self._outputs(subnet))

    def accuracy_of(self, model: nn.Module) -> float:
        """Accuracy of another model, just as it is, on the same samples; the model itself is left as it was."""
        copied = copy.deepcopy(model).to(next(self._supernet.parameters()).device).eval()
        with torch.no_grad():
            return self._accuracy(copied(inputs) for inputs, _ in self._batches)

    def _accuracy(self, outputs: Iterable[Tensor]) -> float:
        pairs = zip(outputs, self._batches, strict=True)
        scores = [self._task.metric(found, targets).cpu().double() for found, (_, targets) in pairs]
        return torch.cat(scores).mean().item()

    def _outputs(self, subnet: Mapping[str, LayerFormat] | None) -> list[Tensor]:
        supernet = self._supernet
        with supernet.running(subnet), torch.no_grad():
            supernet.reestimate_batch_norm(self._calibration)
            supernet.eval()
            return [supernet(inputs) for inputs, _ in self._batches]
