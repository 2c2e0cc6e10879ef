"""A model in floating point as a folder of transformers, which searches and exports of language models start from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from eqnet.errors import RunError
from eqnet.files import write_atomically
from eqnet.packed.artifact import INDEX
from eqnet.packed.opening import CONFIG, some
from eqnet.packed.replacing import replacing, temporary
from eqnet.packed.shard import write_shard


def write_floating(tensors: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path, shard_bytes: int) -> None:
    """Writes ``config.json`` and safetensors files; a killed process leaves all of it or nothing.

    Args:
        tensors: by the names of transformers' model, each made when it is asked for.
        config: of that model.
        folder: new or empty.
        shard_bytes: most bytes of one file, unless a single tensor has more; so much is held.

    Raises:
        RunError: the folder holds something, or cannot be written.
    """
    total = 0
    homes: dict[str, str] = {}
    with replacing(folder, CONFIG, lambda: _check_empty(folder), lambda new: ()) as writing:
        for number, held in enumerate(_files(tensors, shard_bytes), 1):
            name = f"model-{number:05}.safetensors"
            write_shard(writing / name, held)
            homes |= dict.fromkeys(held, name)
            total += _size(held)
        index = {"metadata": {"total_size": total}, "weight_map": homes}
        write_atomically(writing / INDEX, json.dumps(index, indent=1))
        write_atomically(writing / CONFIG, json.dumps(config, indent=2))


def _files(tensors: Mapping[str, Tensor], shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    """The tensors of each file."""
    held: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if held and _size(held) + tensor.nbytes > shard_bytes:
            yield held
            held = {}
        held[name] = tensor
    yield held


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _check_empty(folder: Path) -> None:
    """Raises RunError unless there is nothing in the folder."""
    names = sorted(path.name for path in folder.iterdir() if not temporary(path))
    if names:
        raise RunError(f"{folder}: holds {some(names)}; choose a new folder")
