"""The built-in task ``fashion-mnist``: 70,000 images of clothes (Xiao et al. 2017, arXiv 1708.07747)."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset

from eqnet.errors import InputError
from eqnet.tasks.networks import MobileNet, ResNet
from eqnet.tasks.pretraining import Recipe, pretrained
from eqnet.tasks.task import Normalization, Task

VARIABLE = "FASHION_MNIST"
"""Environment variable with the folder of the data."""

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts the data."""

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Recipe]] = {
    "resnet": (ResNet, Recipe(epochs=3)),
    "mobilenet": (MobileNet, Recipe(epochs=5)),
}
"""The networks that the task comes with, by name, and how each is trained."""

_MEAN, _DEVIATION = 0.2860, 0.3530  # of the training pixels, in [0, 1]

_VALIDATION_SHARE = 12  # one in twelve: 5,000 of the 60,000 training images


def fashion_mnist(cache: Path, seed: int, network: str = "resnet", *, trained: bool = True) -> Task:
    """Fashion-MNIST, and a network trained on it to about 91.5 % in floating point.

    Of the 60,000 training images 5,000 are held out for validation, by a fixed permutation; the 10,000 test images
    are the test set. Inputs are float32 [1, 28, 28], normalized to mean 0 and deviation 1.

    Args:
        cache: folder of the trained weights; the first call trains them in minutes.
        seed: of initial weights and batches; the splits do not depend on it.
        network: a key of ``NETWORKS``.
        trained: whether the network is to be trained; else it has weights that mean nothing, at once.

    Raises:
        InputError: the data is missing or damaged; the message names the file.
        RunError: the cache cannot be written.
    """
    if network not in NETWORKS:
        raise InputError(f"fashion-mnist has no network '{network}'; choose one of {', '.join(NETWORKS)}")
    folder = Path(os.environ.get(VARIABLE) or DEBIAN_FOLDER)
    images, labels = _read_split(folder, "train")
    test = TensorDataset(*_read_split(folder, "t10k"))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    held_out = len(images) // _VALIDATION_SHARE
    chosen, validating = order[: len(order) - held_out], order[len(order) - held_out :]
    train = TensorDataset(images[chosen], labels[chosen])
    build, recipe = NETWORKS[network]
    name = f"fashion-mnist-{network}"
    return Task(
        name="fashion-mnist" if network == "resnet" else name,
        model=pretrained(build, train, recipe, name=name, seed=seed, cache=cache, trained=trained),
        train=train,
        validation=TensorDataset(images[validating], labels[validating]),
        test=test,
        learning_rate=2.5e-3,  # in two epochs 1e-3 leaves a point at 2 bits behind
        normalization=Normalization((_MEAN,), (_DEVIATION,)),
    )


def fashion_mnist_mobilenet(cache: Path, seed: int, *, trained: bool = True) -> Task:
    """``fashion_mnist`` with the network that is hard to quantize."""
    return fashion_mnist(cache, seed, "mobilenet", trained=trained)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads an idx file of bytes, compressed by gzip if its name ends in .gz.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each dimension as a
    big-endian 32-bit integer, then the values in C order.

    Args:
        path: of the file.
        dimensions: how many the array must have.

    Returns:
        uint8 array with the file's shape.

    Raises:
        InputError: the file cannot be read, is no such idx file, or is longer or shorter than its header says.
    """
    try:
        data = path.read_bytes()
        content = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as e:
        raise InputError(f"{path}: cannot be read ({e}); fetch the file again") from e
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise InputError(
            f"{path}: begins with {content[:4].hex(' ') or 'nothing'}, not with {magic.hex(' ')}: "
            f"it is no idx file of bytes in {dimensions} dimensions; fetch the file again"
        )
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise InputError(
            f"{path}: holds {len(content)} bytes, but its header says {expected}: "
            f"it is {'truncated' if len(content) < expected else 'too long'}; fetch the file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_split(folder: Path, stem: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images float32 [N, 1, 28, 28], normalized, and labels int64 [N]."""
    images_path, labels_path = _find(folder, f"{stem}-images-idx3-ubyte"), _find(folder, f"{stem}-labels-idx1-ubyte")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (28, 28):
        height, width = images.shape[1:]
        raise InputError(f"{images_path}: holds images of {height}×{width}, not 28×28; fetch the file again")
    if len(images) != len(labels):
        raise InputError(
            f"{images_path}: holds {len(images)} images, but {labels_path} holds {len(labels)} labels; "
            "fetch both files again"
        )
    if labels.size and labels.max() > 9:
        raise InputError(f"{labels_path}: holds the label {labels.max()}, but there are 0 to 9; fetch the file again")
    pixels = torch.from_numpy(images.copy()).unsqueeze(1).float().div_(255).sub_(_MEAN).div_(_DEVIATION)
    return pixels, torch.from_numpy(labels.astype(np.int64))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise InputError(
        f"{folder}: has neither {name}.gz nor {name}; install the Debian package dataset-fashion-mnist, or set "
        f"{VARIABLE} to a folder with the four idx files of Fashion-MNIST (train-images-idx3-ubyte, "
        "train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte; each may end in .gz)"
    )
