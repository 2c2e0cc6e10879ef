"""Frequencies of rotary positions, as transformers computes them from a configuration: in float32, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqnet.lm.decoder.blocks import UnknownBlockError, Vector

_ONE = np.float32(1)


@dataclass(frozen=True)
class _Given:
    """What frequencies are made of.

    Attributes:
        entries: of ``rope_parameters``.
        periods: base to the power of 2i / dim, for each pair of elements that is turned.
        longest: most tokens of a text.
    """

    entries: Mapping[str, Any]
    periods: Vector
    longest: int

    @property
    def dim(self) -> int:
        """Elements that are turned."""
        return 2 * len(self.periods)


_Made = tuple[Vector, float]
"""Frequencies, and the scale of cosines and sines."""


def _default(given: _Given) -> _Made:
    return _ONE / given.periods, 1.0


def _linear(given: _Given) -> _Made:
    return _ONE / given.periods / np.float32(given.entries["factor"]), 1.0


def _llama3(given: _Given) -> _Made:
    """Long waves are stretched by the factor, short ones are not, and those between in part."""
    factor, low, high, old = (
        given.entries[name]
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    plain = _ONE / given.periods
    waves = np.float32(2 * math.pi) / plain
    stretched = np.where(waves > np.float32(old / low), plain / np.float32(factor), plain)
    share = (np.float32(old) / waves - np.float32(low)) / np.float32(high - low)
    between = (_ONE - share) * stretched / np.float32(factor) + share * stretched
    is_between = ~(waves < np.float32(old / high)) & ~(waves > np.float32(old / low))
    return np.where(is_between, between, stretched), 1.0


def _yarn(given: _Given) -> _Made:
    """Pairs that turn often keep their frequency, others are stretched, with a ramp between them (arXiv 2309.00071)."""
    entries = given.entries
    old, factor = entries["original_max_position_embeddings"], entries["factor"]
    if factor is None:
        factor = given.longest / old
    scale = entries.get("attention_factor")
    if scale is None:
        one, all_ = entries.get("mscale"), entries.get("mscale_all_dim")
        scale = _mscale(factor, one) / _mscale(factor, all_) if one and all_ else _mscale(factor)

    def place(turns: float) -> float:
        """Of the pair that turns so often within the old context."""
        return given.dim * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(entries["rope_theta"]))

    low, high = place(entries.get("beta_fast") or 32), place(entries.get("beta_slow") or 1)
    if entries.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, given.dim - 1)
    high += 0.001 if low == high else 0
    ramp = (np.arange(given.dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    kept = _ONE - np.clip(ramp, 0, 1)
    stretched = _ONE / (np.float32(factor) * given.periods)
    return stretched * (_ONE - kept) + _ONE / given.periods * kept, float(scale)


def _mscale(factor: float, weight: float = 1) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


_KINDS: Mapping[str, Callable[[_Given], _Made]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}

STATIC = tuple(_KINDS)
"""Kinds of rotary positions whose frequencies do not depend on how long the text is."""


def check_kind(kind: object) -> None:
    """Raises UnknownBlockError unless ``kind`` is one of ``STATIC``."""
    if kind not in STATIC:
        raise UnknownBlockError(f"positions are of type '{kind}'; known are {', '.join(STATIC)}")


def frequencies(entries: Mapping[str, Any], head_dim: int, longest: int, *, partial: bool) -> _Made:
    """Frequencies, float32 [pairs], and the scale of cosines and sines.

    Powers are rounded from float64, and so are right to the last bit; PyTorch's are off by one now and then, and
    differ from machine to machine.

    Args:
        entries: of ``rope_parameters``, for one kind of layer.
        head_dim: elements of a head.
        longest: most tokens of a text.
        partial: whether ``partial_rotary_factor`` counts where positions are of the default type.

    Raises:
        UnknownBlockError: an entry is missing, or the type is not known.
    """
    kind = entries.get("rope_type")
    check_kind(kind)
    share = entries.get("partial_rotary_factor", 1.0)
    if share != 1.0 and kind == "default" and not partial:
        raise UnknownBlockError("positions turn a part of a head, which this family does not know")
    try:
        dim = int(head_dim * share)
        if not 0 < dim <= head_dim:
            raise ValueError(f"{dim} elements of {head_dim} are turned")
        with np.errstate(all="ignore"):
            exponents = np.arange(0, dim, 2).astype(np.float32) / np.float32(dim)
            periods = np.power(float(entries["rope_theta"]), exponents.astype(np.float64)).astype(np.float32)
            made, scale = _KINDS[str(kind)](_Given(entries, periods, longest))
    except (KeyError, TypeError, ValueError, ArithmeticError) as e:
        raise UnknownBlockError(f"positions of type '{kind}' are not described whole ({e!r})") from e
    if not bool(np.isfinite(made).all()):
        raise UnknownBlockError(f"positions of type '{kind}' have frequencies that are not finite")
    return made, scale
