"""Models with everything that is stored beside packed layers; each function makes one, with other weights each time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from eqnet.tasks.networks import DigitsNet


class Language(nn.Module):
    """Tied weights, a layer norm, and a buffer that is made anew with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm, self.hidden = nn.LayerNorm(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("positions", torch.arange(6.0)[:, None] / 6, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.hidden(self.embed(x) + self.get_buffer("positions")).relu()))
        return y


class Parts(nn.Module):
    """Batch norms that fold and that do not, parameters and buffers of several types, a parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.folded = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.first, self.plain = nn.BatchNorm2d(2), nn.BatchNorm2d(4, affine=False)
        self.up, self.upped = nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), nn.BatchNorm2d(6, affine=False)
        self.batch = nn.BatchNorm1d(6, track_running_stats=False)
        self.fc = nn.Linear(6, 3)
        self.gain = nn.Parameter(torch.rand(3, dtype=torch.float64))
        self.again = self.gain
        self.register_buffer("counts", torch.arange(5, dtype=torch.int16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain(self.folded(self.conv(self.first(x))).relu())
        x = self.batch(self.upped(self.up(x)).mean((2, 3)))
        return self.fc(x) * self.gain.float() * self.again.float()


class Listed(nn.Module):
    """Calls layers through a plain list, one of them twice, as one that two names refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.also = self.two
        self.order = [self.one, self.norm, self.two, self.two]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.order:
            x = layer(x)
        return x


def sequential() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3, padding="same", bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 3, groups=8),
        nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7, 16), nn.BatchNorm1d(16), nn.Linear(16, 2),
    )  # fmt: skip


def transformer() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), 2)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "tied weights": (Language, lambda: torch.randint(0, 11, (5, 6))),
    "parts": (Parts, lambda: torch.randn(6, 2, 7, 6)),
    "listed": (Listed, lambda: torch.randn(7, 4)),
    "sequential": (sequential, lambda: torch.randn(6, 3, 9)),
    "transformer": (transformer, lambda: torch.randn(3, 5, 8)),
    "digits": (DigitsNet, lambda: torch.randn(8, 1, 8, 8)),
}
"""By name, a function that makes the model and one that makes inputs."""


def trained(name: str) -> tuple[nn.Module, Tensor]:
    """The model of that name with statistics and signs as training leaves them, and inputs."""
    build, inputs = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = build(), inputs()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for part, low, high in (("weight", -1.5, 1.5), ("bias", -0.5, 0.5)):
                    if getattr(module, part) is not None:
                        nn.init.uniform_(module.get_parameter(part), low, high)
                if module.track_running_stats:
                    module.get_buffer("running_mean").uniform_(-0.3, 0.3)
                    module.get_buffer("running_var").uniform_(0.3, 2)
    return model.eval(), x
