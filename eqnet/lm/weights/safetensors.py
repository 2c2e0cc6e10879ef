"""Weights in safetensors files, mapped: a tensor is read when it is asked for, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from eqnet.errors import InputError, RunError
from eqnet.lm.weights.indexed import indexed_files
from eqnet.packed.artifact import INDEX

SINGLE = "model.safetensors"

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class SafetensorsWeights:
    """The tensors of a folder's safetensors files, by the names that they have there.

    Attributes:
        files: in which they are, in order.
        keys: their names.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the headers.

        Raises:
            InputError: there are no weights, a shard is missing, or they are pickles.
            RunError: a file is no safetensors file, or a damaged one.
        """
        self.files = _files(folder)
        self._opened: dict[Path, Any] = {path: _open(path) for path in self.files}
        self._home = {key: path for path, file in self._opened.items() for key in file.keys()}  # noqa: SIM118
        self.keys = frozenset(self._home)

    def shape(self, key: str) -> tuple[int, ...]:
        """Of a tensor, which is not read."""
        return tuple(self._opened[self._home[key]].get_slice(key).get_shape())

    def read(self, key: str) -> Tensor:
        """A tensor as it is stored, in memory of its own.

        Raises:
            RunError: the file cannot be read.
        """
        path = self._home[key]
        try:
            tensor: Tensor = self._opened[path].get_tensor(key).clone()  # what is mapped is one memory for all readers
        except (SafetensorError, OSError) as e:
            raise RunError(f"{path}: tensor '{key}' cannot be read ({e}); copy the file anew") from e
        return tensor


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        return indexed_files(index)
    found = [folder / SINGLE] if (folder / SINGLE).is_file() else sorted(folder.glob("*.safetensors"))
    if not found:
        raise InputError(_why_none(folder))
    part_of_more = "-of-" in found[0].name and not found[0].name.endswith("-of-00001.safetensors")
    if part_of_more and len(found) != _count(found[0].name):
        raise InputError(
            f"{folder}: holds {len(found)} of the {_count(found[0].name)} files that {found[0].name} is one of; "
            "copy the whole folder anew"
        )
    return found


def _count(name: str) -> int:
    """How many files there are, as the name of one says (``model-00001-of-00003.safetensors``)."""
    text = name.rpartition("-of-")[2].partition(".")[0]
    return int(text) if text.isdigit() else 1


def _why_none(folder: Path) -> str:
    pickles = [path for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        return (
            f"{pickles[0]}: is a pickle, and eqnet reads no pickles, as they can run any code; convert it once, where "
            "you trust it: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW) writes safetensors"
        )
    gguf = sorted(folder.glob("*.gguf"))
    if gguf:
        return f"{folder}: has no safetensors files, but {gguf[0].name}; give that file itself: {gguf[0]}"
    return f"{folder}: has no weights (*.safetensors); give the folder of a model, or a .gguf file"


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as e:
        raise RunError(f"{path}: is no safetensors file, or a damaged one ({e}); copy it anew") from e
