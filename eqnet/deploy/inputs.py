"""From a file, an array or an image, to a batch of a model's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.errors import InputError, MissingPackageError
from eqnet.tasks.task import Normalization

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of images of so many channels."""


@dataclass(frozen=True)
class Taken:
    """What a model takes.

    Attributes:
        shape: of one input, without the batch; None if that is not known, or not one.
        dtype: of the inputs.
        normalization: of the pixels of an image, if it is known.
    """

    shape: tuple[int, ...] | None
    dtype: torch.dtype
    normalization: Normalization | None = None


@dataclass(frozen=True)
class Inputs:
    """A batch of inputs that was read from a file.

    Attributes:
        x: [N, ...].
        batched: whether the file had the batch dimension.
        said: what was done to the content of the file, a phrase each.
    """

    x: Tensor
    batched: bool
    said: tuple[str, ...]


def read_inputs(path: Path, taken: Taken | None, normalization: Normalization | None = None) -> Inputs:
    """Reads ``path``, an array if it ends in .npy and else an image.

    Args:
        path: of a NumPy array [N, ...] or of a single input [...], or of anything that Pillow reads.
        taken: what the model says of its inputs; None if it says nothing.
        normalization: of the pixels of an image; that of the task if None.

    Raises:
        InputError: the file cannot be read, or is not what the model takes.
        MissingPackageError: it is an image, and Pillow is not installed.
    """
    if path.suffix == ".npy":
        if normalization is not None:
            raise InputError(f"{path}: arrays are taken as they are; --mean and --std are for images")
        return _array(path, taken)
    return _image(path, taken, normalization)


def _array(path: Path, taken: Taken | None) -> Inputs:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, EOFError, MemoryError) as e:
        raise InputError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e})") from e
    except ValueError as e:  # what holds objects, or is no array at all
        raise InputError(f"{path}: is no .npy array of numbers ({e}); write one with numpy.save") from e
    dtype = taken.dtype if taken is not None else torch.float32
    wanted = np.dtype("float32") if dtype is torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype
    if array.dtype.newbyteorder("=") != wanted:
        raise InputError(
            f"{path}: holds {array.dtype}; the model takes {wanted}: prepare the array as the task does and save it "
            f"with .astype('{wanted}')"
        )
    shape = taken.shape if taken is not None else None
    if shape is not None and array.ndim not in (len(shape), len(shape) + 1):
        one = ", ".join(map(str, shape))
        raise InputError(f"{path}: is of shape {[*array.shape]}; expected [{one}], or [N, {one}] for several")
    if shape is None and array.ndim < 2:
        raise InputError(f"{path}: is of shape {[*array.shape]}; expected a batch, [N, ...]")
    x = torch.from_numpy(np.ascontiguousarray(array, dtype=wanted)).to(dtype)
    if x.is_floating_point() and not torch.isfinite(x).all():
        raise InputError(f"{path}: holds inf or NaN; inputs must be finite")
    batched = shape is None or array.ndim == len(shape) + 1
    x = x if batched else x.unsqueeze(0)
    said = [f"read an array {[*array.shape]} of {wanted}"]
    if shape is not None and tuple(x.shape[1:]) != shape:
        said.append(f"which is of another size than {[*shape]}, what the model was made for")
    return Inputs(x, batched, tuple(said))


def _image(path: Path, taken: Taken | None, normalization: Normalization | None) -> Inputs:
    shape = taken.shape if taken is not None else None
    if taken is None or shape is None or len(shape) != 3 or shape[0] not in _MODES or not taken.dtype.is_floating_point:
        takes = f"takes inputs of shape {[*shape]}" if shape is not None else "says nothing of its inputs"
        raise InputError(f"{path}: is no .npy array, and the model {takes}, not images; give an array as .npy")
    channels, height, width = shape
    normalization = normalization or taken.normalization
    if normalization is None:
        raise InputError(
            f"{path}: the task does not say how pixels become inputs; give --mean and --std, 0 and 1 for pixels from "
            "0 to 1"
        )
    for name, values in (("mean", normalization.mean), ("std", normalization.std)):
        if len(values) not in (1, channels):
            raise InputError(f"{name} has {len(values)} values; give one, or one for each of {channels} channels")
    pixels, said = _pixels(path, channels, height, width)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (normalization.mean, normalization.std))
    said.append(f"subtracted the mean {_numbers(normalization.mean)} and divided by {_numbers(normalization.std)}")
    return Inputs(((pixels - mean) / std).to(taken.dtype).unsqueeze(0), False, tuple(said))


def _pixels(path: Path, channels: int, height: int, width: int) -> tuple[Tensor, list[str]]:
    """Float32 [channels, height, width] from 0 to 1, and what was done."""
    try:
        from PIL import Image, ImageOps
    except ImportError as e:
        raise MissingPackageError(f"{path}: images need Pillow ({e}); pip install pillow, or give a .npy array") from e
    try:
        with Image.open(path) as file:
            image: Any = ImageOps.exif_transpose(file)
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise InputError(f"{path}: cannot be read as an image ({e})") from e
    said = [f"read an image of {image.width}×{image.height}, mode {image.mode}"]
    if image.mode[0] in "IF":  # 16 or 32 bits, of which Pillow's conversion keeps what fits into 8
        raise InputError(f"{path}: has pixels of mode {image.mode}; save it with 8 bits a channel")
    if image.mode != _MODES[channels]:
        image = image.convert(_MODES[channels])
        said.append(f"converted it to {_MODES[channels]}")
    if (image.width, image.height) != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        said.append(f"resized it to {width}×{height}, whatever its proportions")
    array = np.asarray(image, dtype=np.float32).reshape(height, width, channels) / np.float32(255)
    said.append("scaled pixels to 0 to 1")
    return torch.from_numpy(array.transpose(2, 0, 1).copy()), said


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
