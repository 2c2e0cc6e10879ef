"""A training that takes a second, also in a process of its own, which a test can kill."""

from __future__ import annotations

import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import eqnet
from eqnet import Choices, Options, Supernet, Task

SPACE = "w=2-8:channel:sym,asym a=2-8:asym"
OPTIONS = Options(epochs=2, batch_size=8, checkpoint_every=0)
STEPS = 8
"""Those of ``OPTIONS``: two passes over 32 samples, 8 a step."""

LONGER = replace(OPTIONS, epochs=6)
LONGER_STEPS = 24
"""Long enough that a test can kill it before it ends."""


def data(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 6, 6, generator=generator)
    return TensorDataset(x, (x.mean((1, 2, 3)) > 0).long())


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Adds noise from the global generators of torch, NumPy and random, as augmentations do."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = data(32, 1)[index]
        return x + 0.1 * torch.randn_like(x) + float(np.random.normal()) + random.random(), y


def network(*, norm: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(),
            nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Dropout(0.1 if norm else 0.0), nn.Flatten(), nn.Linear(16, 2),
        )  # fmt: skip


def task(*, norm: bool = True, noisy: bool = False) -> Task:
    train: Dataset[tuple[Tensor, Tensor]] = Noisy() if noisy else data(32, 1)
    return Task("small", network(norm=norm), train, data(16, 2), data(16, 3), batch_size=8)


def supernet(of: Task) -> Supernet:
    made = eqnet.elasticize(of.model, Choices.parse(SPACE), of.example_inputs())
    made.calibrate([data(32, 1).tensors[0]])
    return made


def trained(of: Task, options: Options, folder: Path | None = None, stop_after: int | None = None) -> Supernet:
    """A supernet after training, or after as many steps of it."""
    made = supernet(of)
    for progress in eqnet.train(made, of, options, folder):
        if progress.step == stop_after:
            break
    return made


def train_in_a_process(folder: Path, kill_at_checkpoint: int | None) -> None:
    """Trains in ``folder``; dies when so many checkpoints are written but the last has not replaced the one before."""
    torch.set_num_threads(1)
    renamed = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal renamed
        if event == "os.rename" and str(arguments[1]).endswith("checkpoint.safetensors"):
            renamed += 1
            if renamed == kill_at_checkpoint:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    trained(task(noisy=True), LONGER, folder)
