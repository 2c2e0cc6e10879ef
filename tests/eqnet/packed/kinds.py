"""One layer of every kind, with the awkward hyperparameters of each, and every format."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices, Format, Supernet

FORMATS = [
    Format.parse(f"{sign}int{bits}:{granularity}")
    for bits, granularity, sign in product(range(2, 9), ("tensor", "channel", "group16", "group32"), ("", "u"))
]

KINDS: dict[str, tuple[type[nn.Module], dict[str, object], tuple[int, ...]]] = {
    "linear": (nn.Linear, {"in_features": 43, "out_features": 5}, (3, 43)),
    "linear on 4-D": (nn.Linear, {"in_features": 16, "out_features": 3, "bias": False}, (2, 3, 1, 16)),
    "linear of one": (nn.Linear, {"in_features": 1, "out_features": 1}, (4, 1)),
    "conv1d, same": (
        nn.Conv1d,
        {"in_channels": 4, "out_channels": 6, "kernel_size": 4, "padding": "same", "dilation": 2},
        (2, 4, 11),
    ),
    "conv1d, circular": (
        nn.Conv1d,
        {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "padding": 1, "padding_mode": "circular"},
        (2, 3, 7),
    ),
    "conv2d, grouped": (
        nn.Conv2d,
        {"in_channels": 12, "out_channels": 6, "kernel_size": (3, 1), "stride": 2, "groups": 2, "bias": False},
        (2, 12, 7, 5),
    ),
    "conv2d, depthwise, reflected": (
        nn.Conv2d,
        {"in_channels": 5, "out_channels": 5, "kernel_size": 3, "padding": 1, "padding_mode": "reflect", "groups": 5},
        (2, 5, 6, 5),
    ),
    "conv2d without a batch": (nn.Conv2d, {"in_channels": 3, "out_channels": 4, "kernel_size": 3}, (3, 6, 5)),
    "conv3d, replicated": (
        nn.Conv3d,
        {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
        (2, 2, 4, 3, 5),
    ),
    "conv_transpose1d": (nn.ConvTranspose1d, {"in_channels": 4, "out_channels": 3, "kernel_size": 5}, (2, 4, 6)),
    "conv_transpose2d, grouped": (
        nn.ConvTranspose2d,
        {"in_channels": 6, "out_channels": 4, "kernel_size": 3, "stride": 2, "output_padding": 1, "groups": 2},
        (2, 6, 5, 4),
    ),
    "conv_transpose3d": (
        nn.ConvTranspose3d,
        {"in_channels": 2, "out_channels": 3, "kernel_size": 2, "dilation": 2, "padding": 1, "bias": False},
        (2, 2, 4, 3, 4),
    ),
    "embedding": (nn.Embedding, {"num_embeddings": 7, "embedding_dim": 35, "padding_idx": 2}, (3, 4)),
}  # fmt: skip
"""Class, hyperparameters and shape of an input."""


def made(name: str) -> tuple[nn.Module, Tensor]:
    """The layer of that kind, and an input for it."""
    kind, options, shape = KINDS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = kind(**options)
        x = torch.randint(0, 7, shape) if kind is nn.Embedding else torch.randn(shape) + 0.3
    return layer.eval(), x


def calibrated(model: nn.Module, x: Tensor, space: str = "w=2-8:tensor,channel,group16,group32 a=3:asym") -> Supernet:
    """A supernet of ``model`` in which every layer may take every format."""
    supernet = eqnet.elasticize(model, Choices.parse(f"{space} edge=none"), x)
    supernet.calibrate([x])
    return supernet.eval()
