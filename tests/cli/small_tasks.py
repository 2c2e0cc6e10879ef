"""Tasks that are small enough for tests, and some that are wrong on purpose."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from eqnet import Task


def _data(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randn(count, 1, 6, 6, generator=generator)
    rows, columns = labels // 2, labels % 2
    for i in range(count):  # the label says which quadrant is bright
        images[i, 0, 3 * rows[i] : 3 * rows[i] + 3, 3 * columns[i] : 3 * columns[i] + 3] += 1.0
    return TensorDataset(images, labels)


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )


def quadrants(seed: int) -> Task:
    """Which quadrant of a noisy image is bright; trained in floating point in a second."""
    torch.manual_seed(seed)
    model, train = _network(), _data(256, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train.tensors[0]), train.tensors[1]).backward()
        optimizer.step()
    return Task("quadrants", model.eval(), train, _data(128, 2), _data(128, 3), batch_size=64, epochs=1)


def without_norm() -> Task:
    """A task whose batches can be shared among processes without changing what is trained."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
    return Task("without-norm", model, _data(64, 1), _data(16, 2), _data(16, 3), batch_size=16, epochs=1)


def raises() -> Task:
    raise RuntimeError("the disk with the photographs is gone")


def no_layers() -> Task:
    return Task("no-layers", nn.Sequential(nn.Flatten(), nn.ReLU()), *(_data(16, i) for i in range(3)))


def nan_weight() -> Task:
    model = _network()
    with torch.no_grad():
        model[3].weight[0, 0, 0, 0] = float("nan")
    return Task("nan-weight", model, *(_data(16, i) for i in range(3)))


def nan_data() -> Task:
    train = _data(16, 0)
    train.tensors[0][3, 0, 0, 0] = float("nan")
    return Task("nan-data", _network(), train, _data(16, 1), _data(16, 2))


def empty() -> Task:
    return Task("empty", _network(), _data(0, 0), _data(16, 1), _data(16, 2))


class _Spare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = _network()
        self.spare = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def never_called() -> Task:
    return Task("never-called", _Spare(), *(_data(64, i) for i in range(3)), batch_size=32, epochs=1)
