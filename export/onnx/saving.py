"""Files that other programs see whole or not at all, with weights beside them that are too large for one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir

from eqnet.files import unwritable

MOST_INLINE_BYTES = 1_900_000_000
"""Of the weights in a file: the format ends at 2^31 - 1 bytes, of which the graph itself needs some."""

_SMALLEST_BESIDE = 1024
"""Bytes of a tensor that goes beside the file; smaller ones may be shapes, which others look for in it."""

_ALIGNMENT = 4096
"""Bytes: a page, so that tensors can be mapped into memory as they lie in their file."""


def weights_path(path: Path) -> Path:
    """Of the weights that lie beside ``path``."""
    return path.with_name(f"{path.name}.data")


def save(model: ir.Model, path: Path) -> int:
    """Writes ``model``, checks it, and puts it in the place of ``path``.

    Weights of more than ``MOST_INLINE_BYTES`` in all go to ``weights_path``, one after the other: no two of them need
    be in memory. They take their place before the model that refers to them does.

    Returns:
        Bytes of all that was written.

    Raises:
        RunError: the folder cannot be written or the disk is full; the message names the path.
    """
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    beside = weights_path(path).name if weights > MOST_INLINE_BYTES else None
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder, path.name)
            if beside is None:
                ir.save(model, temporary)
            else:
                ir.save(
                    model,
                    temporary,
                    external_data=beside,
                    size_threshold_bytes=_SMALLEST_BESIDE,
                    alignment=_ALIGNMENT,
                    align_threshold=0,
                )
            onnx.checker.check_model(str(temporary), full_check=True)
            names = [path.name] if beside is None else [beside, path.name]
            written = [Path(folder, name) for name in names]
            nbytes = sum(file.stat().st_size for file in written)
            for file in written:
                file.chmod(0o644)
                file.replace(path.with_name(file.name))
    except OSError as e:
        raise unwritable(path, e) from e
    return nbytes
