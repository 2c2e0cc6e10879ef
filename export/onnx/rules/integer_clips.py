"""Bounds of codes, where there are several, or none is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, again, constant, scalar

_LEAST, _MOST = 0, 255
"""Of UINT8."""


def bounds(clipped: ir.Value) -> tuple[int, int] | None:
    """Of a Clip of bytes; None if it is none, or they are not known."""
    node = clipped.producer()
    assert node is not None
    given = [scalar(value) for value in node.inputs[1:] if value is not None]
    if any(bound is None or bound.dtype != np.uint8 for bound in given):
        return None
    low, high = (scalar(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 2))
    return (_LEAST if low is None else int(low)), (_MOST if high is None else int(high))


class MergeIntegerClips(Rule):
    """``Clip(Clip(codes)) → Clip(codes)``."""

    def pattern(self, op: Any, codes: Any) -> Any:
        """What is replaced."""
        inner = op.Clip(codes, _allow_other_inputs=True, _outputs=["inner"])
        return op.Clip(inner, _allow_other_inputs=True, _outputs=["outer"])

    def applies(self, inner: ir.Value, outer: ir.Value, **_: Any) -> bool:
        """Both are of bytes."""
        return bounds(inner) is not None and bounds(outer) is not None

    def rewrite(self, op: Any, codes: ir.Value, inner: ir.Value, outer: ir.Value) -> Any:
        """What takes its place."""
        first, second = bounds(inner), bounds(outer)
        assert first is not None
        assert second is not None
        low, high = (min(max(bound, second[0]), second[1]) for bound in first)
        return op.Clip(codes, *(constant(op, np.uint8(bound)) for bound in (low, high)))


class ClipAfterMaxPool(Rule):
    """``MaxPool(Clip(codes)) → Clip(MaxPool(codes))``, which has fewer to clip, perhaps with other bounds behind it."""

    def pattern(self, op: Any, codes: Any) -> Any:
        """What is replaced."""
        clipped = op.Clip(codes, _allow_other_inputs=True, _outputs=["clipped"])
        return op.MaxPool(clipped, _outputs=["pooled"])

    def applies(self, clipped: ir.Value, **_: Any) -> bool:
        """It is of bytes."""
        return bounds(clipped) is not None

    def rewrite(self, op: Any, codes: ir.Value, clipped: ir.Value, pooled: ir.Value) -> Any:
        """What takes its place."""
        clip, pool = clipped.producer(), pooled.producer()
        assert clip is not None
        assert pool is not None
        return again(op, clip, again(op, pool, codes), *clip.inputs[1:])


class DropIntegerClip(Rule):
    """``Clip(codes) → codes``, where the bounds are those of a byte."""

    def pattern(self, op: Any, codes: Any) -> Any:
        """What is replaced."""
        return op.Clip(codes, _allow_other_inputs=True, _outputs=["clipped"])

    def applies(self, codes: ir.Value, clipped: ir.Value) -> bool:
        """The Clip has bounds, and leaves all codes."""
        node = clipped.producer()
        assert node is not None
        return any(value is not None for value in node.inputs[1:]) and bounds(clipped) == (_LEAST, _MOST)

    def rewrite(self, op: Any, codes: ir.Value, clipped: ir.Value) -> Any:
        """What takes its place."""
        return op.Identity(codes)
