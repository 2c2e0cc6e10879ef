"""Three trained networks with real images: what they answer counts, not only how long they take."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import load
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from whole_network import efficientnet_lite0

from eqnet.data import calibration_inputs

NAMES = ("resnet", "mobilenet", "efficientnet-lite0")

IMAGES = "foolbox==3.3.4"
"""The package that carries 20 labelled images of ImageNet; they calibrate the network, too."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in floating point, and its data.

    Attributes:
        name: one of NAMES.
        model: in evaluation mode.
        calibration: [N, channels, height, width].
        images: of the test set.
        labels: [N].
    """

    name: str
    model: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor


def trained(name: str, cache: Path) -> Trained:
    """A network by its name; those on Fashion-MNIST are trained the first time."""
    if name == "efficientnet-lite0":
        images, labels = imagenet()
        return Trained(name, efficientnet_lite0().eval(), images, images, labels)
    task = load(name, cache)
    assert isinstance(task.test, TensorDataset)
    images, labels = task.test.tensors
    return Trained(name, task.model.eval(), torch.cat(calibration_inputs(task, "cpu")), images, labels)


def imagenet() -> tuple[Tensor, Tensor]:
    """20 images, [20, 3, 224, 224] as EfficientNet-Lite0 takes them, and their labels."""
    from PIL import Image

    found = importlib.util.find_spec("foolbox")
    if found is None or found.origin is None:
        raise SystemExit(f"the images are not installed: pip install --no-deps {IMAGES}")
    paths = sorted((Path(found.origin).parent / "data").glob("imagenet_*.jpg"))
    labels = torch.tensor([int(path.stem.split("_")[-1]) for path in paths])
    pixels = [np.asarray(Image.open(p).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)) for p in paths]
    x = (torch.from_numpy(np.stack(pixels)).float() - 127) / 128
    return x.permute(0, 3, 1, 2).contiguous(), labels
