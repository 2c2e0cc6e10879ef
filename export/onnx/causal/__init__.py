"""Packed language models as ONNX files that keep keys and values, so that a token costs one step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqnet.errors import MissingPackageError, ModelError
from eqnet.export.onnx.options import OnnxOptions, OnnxReport

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel

__all__ = ["is_causal", "write_causal"]


def is_causal(packed: PackedModel) -> bool:
    """Whether it is a causal language model of transformers."""
    model: Any = packed.model
    config = getattr(model, "config", None)
    if not hasattr(config, "model_type") or not hasattr(model, "can_generate"):
        return False
    return bool(model.can_generate()) and not getattr(config, "is_encoder_decoder", False)


def write_causal(
    packed: PackedModel,
    path: str | Path,
    *,
    options: OnnxOptions | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> OnnxReport:
    """Writes a causal language model as an ONNX file, checks it, and only then puts it in the place of what was there.

    Inputs and outputs are named as ONNX Runtime's tools for language models expect them: ``input_ids`` and
    ``position_ids`` [batch, length], ``attention_mask`` [batch, past + length], ``past_key_values.N.key`` and
    ``.value`` [batch, heads, past, head]; ``logits`` [batch, length, tokens], ``present.N.key`` and ``.value``
    [batch, heads, past + length, head]. Batch, length and past may have any size, past 0 as well.

    Args:
        packed: on the CPU; it is left as it was.
        path: of the file.
        options: see ``OnnxOptions``.
        report: told (stage, done, total).

    Raises:
        InputError: the opset is too old for a layer's bits, or unknown to the packages installed.
        ModelError: it is no causal language model, or cannot be exported; the message names the line of its code.
        MissingPackageError: the extra ``onnx`` is not installed.
        RunError: the file cannot be written.
    """
    if not is_causal(packed):
        raise ModelError(f"{type(packed.model).__name__} is no causal language model of transformers")
    try:
        from eqnet.export.onnx.causal.writing import write
    except ImportError as e:
        if (e.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingPackageError(f"writing ONNX needs the package {e.name}: pip install 'eqnet[onnx]'") from e
    return write(packed, Path(path), options or OnnxOptions(), report)


_PACKAGES = ("onnx", "onnx_ir", "onnxscript", "ml_dtypes")
