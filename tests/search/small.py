"""Small spaces and a small task that the tests of the search share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

import eqnet
from eqnet import Choices, Supernet, Task
from eqnet.space import ElasticSpace, Layer, TiedSet


def space(text: str, *layers: Layer, edges: Sequence[str] = (), float_bytes: int = 0) -> ElasticSpace:
    """One tied set a layer; those named in ``edges`` are edges."""
    choices = Choices.parse(text)
    sets = tuple(TiedSet((layer,), choices.formats(edge=layer.name in edges), layer.name in edges) for layer in layers)
    return ElasticSpace(sets, scale_bits=choices.scale_bits, float_bytes=float_bytes)


def every_gene(of: ElasticSpace) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """All genes of a space, int64 [subnets, sets]."""
    return np.array(list(product(*(range(size) for size in of.sizes))), dtype=np.int64)


def points(count: int, seed: int) -> TensorDataset:
    """Points of the plane, labelled by quadrant."""
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long())


def small_task() -> Task:
    """A perceptron that is trained on ``points``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)
        )
        x, y = points(256, 0).tensors
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return Task("points", model.eval(), points(256, 0), points(128, 1), points(128, 2))


def small_supernet(task: Task, text: str = "w=2-8:channel:sym,asym a=8:asym edge=none") -> Supernet:
    """Calibrated, not trained."""
    made = eqnet.elasticize(task.model, Choices.parse(text), task.example_inputs())
    made.calibrate([points(256, 0).tensors[0]])
    return made
