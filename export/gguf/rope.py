"""Rotary position embeddings as llama.cpp takes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from eqnet.errors import ModelError

Fields = dict[str, Any]


def rope_fields(config: Any, head: int) -> Fields:
    """Hyperparameters of a model's rotary embedding; none if it has none.

    Args:
        config: of transformers.
        head: values of a head.

    Raises:
        ModelError: positions are scaled in a way that llama.cpp does not know.
    """
    rope = _parameters(config)
    if rope is None:
        return {}
    local = _parameters(config, "sliding_attention")
    kind = rope.get("rope_type", "default")
    if kind not in _SCALED:
        raise ModelError(f"rope_type '{kind}' has no GGUF form; {', '.join(_SCALED)} have")
    fields: Fields = {
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(head * (rope.get("partial_rotary_factor") or 1.0)),
        **_SCALED[kind](rope),
    }
    if local is not None and local is not rope:
        fields["rope.freq_base_swa"] = float(local["rope_theta"])
    return fields


def frequency_factors(config: Any, head: int) -> np.ndarray[Any, Any] | None:
    """What Llama 3 divides each frequency by, float32 [head / 2]; None for all other models.

    Long waves are divided by ``factor``, short ones by 1, and those in between by what lies between, as
    ``transformers.modeling_rope_utils`` has it for ``rope_type`` "llama3".
    """
    rope = _parameters(config)
    if rope is None or rope.get("rope_type") != "llama3":
        return None
    inverse = 1.0 / rope["rope_theta"] ** (np.arange(0, head, 2, dtype=np.float64) / head)
    turns = rope["original_max_position_embeddings"] * inverse / (2 * math.pi)  # within the old context
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    factors = 1 / ((1 - smooth) / rope["factor"] + smooth)
    return np.asarray(factors, np.float32)


def _parameters(config: Any, kind: str = "full_attention") -> Mapping[str, Any] | None:
    """Those of layers of one kind, where they differ."""
    rope = getattr(config, "rope_parameters", None)
    if not rope:
        return None
    found: Mapping[str, Any] = rope.get(kind, rope)
    return found


def _yarn(rope: Mapping[str, Any]) -> Fields:
    length = rope["original_max_position_embeddings"]
    return {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": float(rope["factor"]),
        "rope.scaling.original_context_length": length,
    }


_SCALED: Mapping[str, Callable[[Mapping[str, Any]], Fields]] = {
    "default": lambda rope: {},
    "llama3": lambda rope: {},
    "linear": lambda rope: {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])},
    "yarn": _yarn,
}
"""By ``rope_type``."""
