"""What the benchmarks share: the two networks with their weights, timing of ratios, and printing."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import eqnet
from eqnet import Choices, Format, Granularity, LayerFormat, Supernet, Task
from eqnet.data import calibration_inputs
from eqnet.tasks.fashion_mnist import NETWORKS
from eqnet.tasks.pretraining import pretrained

TASKS = {"resnet": "fashion-mnist", "mobilenet": "fashion-mnist-mobilenet"}
"""The two networks: a ResNet (He et al., 2016), easy to quantize, and a MobileNetV2 form (Sandler et al., 2018), hard.

Both are in ``eqnet/tasks/networks.py``, and are trained in floating point for 3 and 5 epochs of Fashion-MNIST."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--cache", type=Path, default=Path("runs/float"), help="folder of the fp32 weights")
    result.add_argument("--json", action="store_true", help="print JSON")
    return result


def load(network: str, cache: Path, seed: int = 0) -> Task:
    """The task of one of the two networks, from cached fp32 weights."""
    return eqnet.load_task(TASKS[network], cache=cache, seed=seed)


def load_whole(network: str, cache: Path, seed: int = 0) -> Task:
    """The same with all 60,000 training images, in floating point and for the supernet: nothing is chosen by them."""
    task = load(network, cache, seed)
    build, recipe = NETWORKS[network]
    parts = [part.tensors for part in (task.train, task.validation) if isinstance(part, TensorDataset)]
    train = TensorDataset(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    model = pretrained(build, train, recipe, name=f"{task.name}-whole", seed=seed, cache=cache)
    return replace(task, model=model, train=train)


def elastic(task: Task, space: str) -> Supernet:
    """A calibrated supernet."""
    supernet = eqnet.elasticize(task.model, Choices.parse(space), task.example_inputs())
    supernet.calibrate(calibration_inputs(task, "cpu"))
    return supernet


def layer_format(bits: int, granularity: str, symmetric: bool, activation: int | None = None) -> LayerFormat:
    """A weight format, with asymmetric per-tensor activations of the same width unless another is given."""
    size = int(granularity.removeprefix("group")) if granularity.startswith("group") else 0
    kind = Granularity.GROUP if size else Granularity(granularity)
    return LayerFormat(Format(bits, symmetric, kind, size), Format(activation or bits, False))


def interleaved(rounds: int, *functions: Callable[[], Any]) -> list[float]:
    """Median seconds of each function, called in turn: A B A B; the first round only warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def fp32_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    """One plain training step."""
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Prints rows of figures as a table, or as JSON."""
    if as_json:
        json.dump(list(rows), sys.stdout, indent=2)
        print()
        return
    columns = list(rows[0])
    cells = [[f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    for line in [columns, *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
