"""Tensors of ``.pt`` and ``.bin`` files, which are pickles, read without running any of their code.

Pickles can call any function. PyTorch's restricted unpickler (``weights_only=True``) calls those that make tensors and
plain containers, and refuses a file that wants more; so does eqnet. Data stay in the mapped file until they are used.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from eqnet.errors import InputError, RunError

_NESTED = ("module", "state_dict", "model")
"""Under which a file that holds more than weights has them."""


class PickledWeights:
    """The tensors of ``.pt`` or ``.bin`` files, by the names that they have there.

    Attributes:
        files: in which they are.
        keys: their names.

    Raises:
        InputError: a file holds more than tensors, or none; or two files have one of the same name.
        RunError: a file cannot be read, or is damaged.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._tensors: dict[str, Tensor] = {}
        for path in self.files:
            found = _tensors(path)
            twice = set(found) & set(self._tensors)
            if twice:
                raise InputError(f"{path}: tensor '{min(twice)}' is in another file, too; copy the whole folder anew")
            self._tensors |= found
        self.keys = frozenset(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        """Of a tensor, which is not read."""
        return tuple(self._tensors[key].shape)

    def read(self, key: str) -> Tensor:
        """A tensor as it is stored, on the mapped memory of its file."""
        return self._tensors[key]


def _tensors(path: Path) -> dict[str, Tensor]:
    loaded = _loaded(path)
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    found = {}
    if isinstance(loaded, Mapping):
        found = {str(name): value.detach() for name, value in loaded.items() if isinstance(value, Tensor)}
    if not found:
        raise InputError(f"{path}: holds no tensors by name; give the checkpoint of a GLM")
    return found


def _loaded(path: Path) -> object:
    try:
        mapped = zipfile.is_zipfile(path)  # the form of PyTorch before 1.6 cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as e:
        raise InputError(
            f"{path}: wants to run more than what makes tensors, which eqnet never does ({_reason(e)}); where you "
            "trust the file, keep its tensors alone: safetensors.torch.save_file(STATE_DICT, 'model.safetensors')"
        ) from e
    except OSError as e:
        raise RunError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise RunError(f"{path}: is damaged, or no file of PyTorch ({_reason(e)}); copy it anew") from e


def _reason(error: Exception) -> str:
    """The line of PyTorch's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0]
