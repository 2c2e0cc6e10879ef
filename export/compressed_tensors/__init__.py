"""Packed language models in compressed-tensors' format, which vLLM and transformers load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqnet.errors import InputError, MissingPackageError
from eqnet.export.compressed_tensors.options import ENGINES, VLLM, CompressedReport

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel

__all__ = ["ENGINES", "CompressedReport", "write_compressed_tensors"]


def write_compressed_tensors(
    packed: PackedModel,
    folder: str | Path,
    *,
    source: Any = None,
    engine: str = VLLM,
    report: Callable[[str, int, int], None] | None = None,
) -> CompressedReport:
    """Writes ``packed`` as a folder that ``AutoModelForCausalLM.from_pretrained`` and vLLM load.

    Codes, scales and zero points of linear layers are kept as they are, in compressed-tensors' own layout of whole
    32-bit words. Embeddings, and the output head, go to 16 bits, as neither engine looks up packed rows; so does all
    that was in floating point, in the type of the scales, which is the one that the kernels compute in.

    Args:
        packed: a causal language model of transformers, on the CPU; it is left as it was.
        folder: new, empty, or one that this function wrote, which is replaced.
        source: where the model came from (``eqnet.lm.source.Source``), for its tokenizer's files.
        engine: ``vllm`` refuses what vLLM has no kernels for; ``transformers`` takes every format but
            asymmetric ones of 8 bits, and has those of fewer bits written as symmetric ones of one more.
        report: told (stage, done, total).

    Raises:
        InputError: the engine is unknown.
        ModelError: the engine does not run a layer's format; the message has the nearest.
        MissingPackageError: the extra ``compressed-tensors`` is not installed.
        RunError: the folder holds something else, or cannot be written.
    """
    if engine not in ENGINES:
        raise InputError(f"engine '{engine}' is unknown; choose {' or '.join(ENGINES)}")
    try:
        from eqnet.export.compressed_tensors.writing import write
    except ImportError as e:
        name = (e.name or "").partition(".")[0]
        if name not in ("compressed_tensors", "transformers", "huggingface_hub"):
            raise
        raise MissingPackageError(
            f"--to compressed-tensors needs the package {name} ({e}): pip install 'eqnet[compressed-tensors]'"
        ) from e
    return write(packed, Path(folder), source, engine, report)
