"""What eqnet writes into the files of other engines, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eqnet.errors import InputError, RunError
from eqnet.packed.record import Record

RECORD, LAYERS, VERSION = "eqnet.record", "eqnet.layers", "eqnet.version"
"""Keys of an ONNX model's metadata: the record, the graph value of each layer's result, and who wrote the file."""

SYMBOL = "eqnet_record"
"""Of a compiled library: zero-terminated JSON of version, record, inputs and kernels."""

NO_RECORD = "the file carries no quantization record"
"""What is said of files that eqnet did not write."""


def parse(path: Path, key: str, text: str) -> Any:
    """The JSON of ``text``; raises RunError, naming file and key, if it is none."""
    try:
        return json.loads(text)
    except ValueError as e:
        raise _damaged(path, key, f"is no JSON ({e})") from e


def record_of(path: Path, key: str, data: object) -> Record:
    """Raises RunError, naming file and key, unless ``data`` is what ``Record.to_json`` gives."""
    try:
        return Record.from_json(data)
    except InputError as e:
        raise _damaged(path, key, str(e)) from e


def layers_of(path: Path, data: object) -> dict[str, str]:
    """Names of graph values by those of layers; raises RunError, naming the file, if it is something else."""
    if isinstance(data, dict) and all(type(value) is str for value in data.values()):
        return data
    raise _damaged(path, LAYERS, "expected names of graph values by names of layers")


def _damaged(path: Path, key: str, what: str) -> RunError:
    return RunError(f"{path}: its {key} {what}; the file is damaged, export again")
