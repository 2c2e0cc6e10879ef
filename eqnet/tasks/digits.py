"""The built-in task ``digits``: 1,797 handwritten digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from eqnet.errors import InputError
from eqnet.tasks.networks import DigitsNet
from eqnet.tasks.pretraining import Recipe, pretrained
from eqnet.tasks.task import Normalization, Task
from eqnet.threads import threads

_MEAN, _DEVIATION = 0.3053, 0.3760  # of all pixels, in [0, 1]

_RECIPE = Recipe(epochs=15, peak_rate=0.05, batch_size=64)


def digits(cache: Path, seed: int, *, trained: bool = True) -> Task:
    """Handwritten digits of 8×8 pixels, and a small network trained on them to about 99 % in floating point.

    60 % of the images are for training, 20 % for validation and 20 % for the test, with the classes in equal
    shares. Inputs are float32 [1, 8, 8], normalized to mean 0 and deviation 1.

    Args:
        cache: folder of the trained weights; the first call trains them in seconds.
        seed: of initial weights and batches; the splits do not depend on it.
        trained: whether the network is to be trained; else it has weights that mean nothing, at once.

    Raises:
        InputError: scikit-learn is not installed.
        RunError: the cache cannot be written.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as e:
        raise InputError(f"the task digits needs scikit-learn ({e}); pip install scikit-learn") from e
    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    images, labels = (pixels - _MEAN) / _DEVIATION, torch.from_numpy(bunch.target).long()
    train, validation, test = (TensorDataset(images[part], labels[part]) for part in _stratified(bunch.target))
    # Such small layers gain nothing from a second thread, and lose tenfold where it waits for a busy core.
    with threads(1):
        model = pretrained(DigitsNet, train, _RECIPE, name="digits", seed=seed, cache=cache, trained=trained)
    return Task(
        name="digits",
        model=model,
        train=train,
        validation=validation,
        test=test,
        batch_size=64,
        epochs=10,
        normalization=Normalization((_MEAN,), (_DEVIATION,)),
    )


def _stratified(labels: NDArray[np.int64]) -> list[torch.Tensor]:
    """Indices of 3/5, 1/5 and 1/5 of the samples, each in ascending order and with equal shares of every label.

    Ascending: samples stay as mixed as the data set has them, for whoever reads only the first few.
    """
    shuffled = np.random.default_rng(0).permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    turn = np.arange(len(labels)) % 5
    parts = (by_label[turn < 3], by_label[turn == 3], by_label[turn == 4])
    return [torch.from_numpy(np.sort(part)) for part in parts]
