"""Floating-point training of the built-in tasks' networks, done once and then read from a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from eqnet.data import Shuffled, batches
from eqnet.errors import RunError
from eqnet.files import write_atomically
from eqnet.randomness import seeded

_FORMAT = "eqnet-pretrained"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum under one cycle of the learning rate.

    The cycle is OneCycleLR's (Smith & Topin 2018, arXiv 1708.07120): the rate rises over 30 % of the steps from 1/25
    of its peak and then falls to almost nothing, while the momentum goes from 0.95 to 0.85 and back.

    Attributes:
        epochs: passes over the training data.
        peak_rate: highest learning rate.
        weight_decay: L2 penalty on all parameters.
        batch_size: samples a step; an epoch's last, shorter batch is dropped.
    """

    epochs: int
    peak_rate: float = 0.2
    weight_decay: float = 5e-4
    batch_size: int = 128


def pretrained(
    build: Callable[[], nn.Module],
    data: TensorDataset,
    recipe: Recipe,
    *,
    name: str,
    seed: int,
    cache: Path,
    trained: bool = True,
) -> nn.Module:
    """A network trained with cross-entropy, from the cache if it was trained before.

    The cached file's name and header identify architecture, data, recipe and seed. A file that is corrupt or was
    made for something else is made again, with a warning in the log: nothing is lost but time.

    Args:
        build: makes the network; its initial weights follow ``seed``.
        data: inputs [N, ...] and labels int64 [N].
        recipe: how to train.
        name: of the network, for the file and the log.
        seed: of initial weights and batches.
        cache: folder of the weights; made if absent.
        trained: False leaves the network as it was built, and the cache alone.

    Returns:
        The network, on the CPU and in evaluation mode.

    Raises:
        RunError: the cache cannot be written.
    """
    with seeded(seed):
        network = build()
    if not trained:
        return network.eval()
    identity = json.dumps(
        {
            "network": name,
            "architecture": _architecture(network),
            "data": _checksum(data.tensors),
            "recipe": asdict(recipe),
            "seed": seed,
        },
        sort_keys=True,
    )
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    path = cache / f"{name}-{recipe.epochs}epochs-seed{seed}-{digest}.safetensors"
    if path.exists():
        problem = _restore(network, path, identity)
        if problem is None:
            return network.eval()
        _log.warning("%s: %s; training %s again", path, problem, name)
    _make_folder(cache)  # before the training rather than after it
    _log.info("training %s once, for %d epochs; its weights go to %s", name, recipe.epochs, path)
    fit(network, data, recipe, name=name, seed=seed)
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    header = {"format": _FORMAT, "identity": identity, "checksum": str(_checksum(tensors.values()))}
    write_atomically(path, save(tensors, header))
    return network.eval()


def fit(network: nn.Module, data: TensorDataset, recipe: Recipe, *, name: str, seed: int) -> None:
    """Trains ``network`` in place with cross-entropy; global random generators stay as they were.

    Args:
        network: [N, ...] → logits [N, classes].
        data: inputs [N, ...] and labels int64 [N].
        recipe: how to train.
        name: of the network, for the log.
        seed: of the batches.
    """
    plan = Shuffled(len(data), recipe.batch_size, seed)
    # The scheduler sets rate and momentum before the first step.
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.peak_rate, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
    )
    total = recipe.epochs * plan.steps_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, total_steps=total)
    network.train()
    with seeded(seed):  # for networks with dropout
        for epoch in range(recipe.epochs):
            first = epoch * plan.steps_per_epoch
            steps = list(plan.steps(first, first + plan.steps_per_epoch))
            losses = []
            for inputs, labels in batches(data, steps):
                optimizer.zero_grad()
                loss = F.cross_entropy(network(inputs), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            mean = torch.stack(losses).mean().item()
            _log.info("training %s: epoch %d of %d, loss %.3f", name, epoch + 1, recipe.epochs, mean)


def _restore(network: nn.Module, path: Path, identity: str) -> str | None:
    """Loads cached weights; returns what is wrong with the file, None if nothing."""
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as e:
        return f"cannot be read ({e})"
    if header.get("format") != _FORMAT or header.get("identity") != identity:
        return "holds the weights of something else"
    order = list(network.state_dict())  # the checksum's; a file has its own
    if tensors.keys() != set(order) or header.get("checksum") != str(_checksum(tensors[key] for key in order)):
        return "has damaged weights"
    network.load_state_dict(tensors)
    return None


def _architecture(network: nn.Module) -> str:
    """Digest of the modules with their settings, and of the names and shapes of all tensors."""
    shapes = [f"{key} {tuple(tensor.shape)}" for key, tensor in network.state_dict().items()]
    return hashlib.sha256("\n".join([str(network), *shapes]).encode()).hexdigest()[:16]


def _checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 of the tensors' bytes, one after the other."""
    value = 0
    for tensor in tensors:
        value = zlib.crc32(tensor.contiguous().numpy().reshape(-1).view("uint8").data, value)
    return value


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise RunError(f"{folder}: cannot be made a folder ({e.strerror or e}); choose another cache folder") from e
