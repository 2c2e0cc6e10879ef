"""Packed language models as GGUF files, which llama.cpp runs; every weight keeps its value, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqnet.errors import MissingPackageError
from eqnet.export.gguf.options import GgufReport

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel

__all__ = ["GgufReport", "write_gguf"]


def write_gguf(
    packed: PackedModel,
    path: str | Path,
    *,
    source: Any = None,
    report: Callable[[str, int, int], None] | None = None,
) -> GgufReport:
    """Writes ``packed`` as a GGUF file, and puts it in the place of what was there.

    Each weight takes the narrowest type of ggml that has all of its values, which may be wider than its format: the
    report says how many bits result. Only weights whose columns 32 does not divide are rounded, to float16.

    Args:
        packed: a causal language model of transformers, on the CPU; it is left as it was.
        path: of the file.
        source: where the model came from (``eqnet.lm.source.Source``), for its name and tokenizer; without one, the
            file takes tokens as numbers.
        report: told (stage, done, total).

    Raises:
        ModelError: llama.cpp has no such models, or ggml no type for a layer's format; the message has the nearest.
        MissingPackageError: the extra ``hf`` is not installed.
        RunError: the file cannot be written.
    """
    try:
        from eqnet.export.gguf.writing import write
    except ImportError as e:
        if (e.name or "").partition(".")[0] != "gguf":
            raise
        raise MissingPackageError("writing GGUF needs the package gguf: pip install 'eqnet[hf]'") from e
    return write(packed, Path(path), source, report)
