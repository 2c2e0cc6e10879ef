"""Where in a folder the files of each process are.

    FOLDER/latest                             GLM-130B: holds the name of the folder beside it
    FOLDER/49300/mp_rank_00_model_states.pt   one file for each process
    FOLDER/config.json                        ChatGLM: all in one piece, in
    FOLDER/*.safetensors                      these files, or
    FOLDER/pytorch_model*.bin                 these, as pytorch_model.bin.index.json says

Of GLM-130B the folder with the files of the processes will do as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from torch import Tensor

from eqnet.errors import InputError, RunError
from eqnet.lm.glm.pickles import PickledWeights
from eqnet.lm.weights import SafetensorsWeights, indexed_files
from eqnet.packed import strict_json

_RANK = re.compile(r"mp_rank_([0-9]+)_model_states\.pt")
_BIN, _BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_CONFIGS = ("config.json", "model_config.json")


class Stored(Protocol):
    """The tensors of one process in their files.

    Attributes:
        keys: their names.
    """

    keys: frozenset[str]

    def shape(self, key: str) -> tuple[int, ...]:
        """Of one tensor, which is not read."""

    def read(self, key: str) -> Tensor:
        """One tensor as it is stored."""


def open_parts(folder: Path) -> tuple[Stored, ...]:
    """The tensors of each process; of their data nothing is read yet.

    Raises:
        InputError: the folder holds no checkpoint, or a part of one is missing.
        RunError: a file is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the one that holds the checkpoint of a GLM")
    ranks = _ranks(folder)
    if ranks:
        return tuple(PickledWeights([path]) for path in ranks)
    if any(folder.glob("*.safetensors")):
        return (SafetensorsWeights(folder),)
    return (PickledWeights(_bins(folder)),)


def read_settings(folder: Path) -> dict[str, object]:
    """What ``config.json`` or ``model_config.json`` says; empty if there is neither.

    Raises:
        RunError: the file is damaged.
    """
    for path in (folder / name for name in _CONFIGS):
        if path.is_file():
            try:
                return strict_json.parse(path.read_bytes(), path)
            except OSError as e:
                raise RunError(f"{path}: cannot be read ({e.strerror or e})") from e
    return {}


def _ranks(folder: Path) -> list[Path]:
    """The files of all processes in order; none if the folder has no such files."""
    home = _iteration(folder)
    found = {int(match[1]): path for path in home.iterdir() if (match := _RANK.fullmatch(path.name))}
    missing = sorted(set(range(max(found, default=-1) + 1)) - set(found))
    if missing:
        raise InputError(
            f"{home}: the file of rank {missing[0]} is missing (mp_rank_{missing[0]:02}_model_states.pt), though there "
            f"is one of rank {max(found)}; copy the whole folder anew"
        )
    return [found[rank] for rank in sorted(found)]


def _iteration(folder: Path) -> Path:
    """The folder with the files of the processes: the one that ``latest`` names, or else ``folder`` itself."""
    latest = folder / "latest"
    if not latest.is_file():
        return folder
    name = latest.read_text(encoding="utf-8", errors="replace").strip()
    if Path(name).name != name or not (folder / name).is_dir():
        raise InputError(f"{latest}: names '{name}', which is no folder beside it; copy the whole folder anew")
    return folder / name


def _bins(folder: Path) -> list[Path]:
    index = folder / _BIN_INDEX
    if not index.is_file():
        if (folder / _BIN).is_file():
            return [folder / _BIN]
        raise InputError(
            f"{folder}: holds no checkpoint of a GLM; expected latest and mp_rank_*_model_states.pt of GLM-130B, or "
            "config.json and the .safetensors or .bin files of a ChatGLM"
        )
    return indexed_files(index)
