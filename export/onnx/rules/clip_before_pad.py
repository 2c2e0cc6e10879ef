"""Bounds of codes before padding."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.integer_clips import bounds
from eqnet.export.onnx.rules.rule import Rule, again, scalar


class ClipBeforePad(Rule):
    """``Clip(Pad(codes)) → Pad(Clip(codes))``, where the bounds leave what is padded with.

    The padding is next to the convolution then, which may add it itself.
    """

    def pattern(self, op: Any, codes: Any) -> Any:
        """What is replaced."""
        padded = op.Pad(codes, _allow_other_inputs=True, _outputs=["padded"])
        return op.Clip(padded, _allow_other_inputs=True, _outputs=["clipped"])

    def applies(self, padded: ir.Value, clipped: ir.Value, **_: Any) -> bool:
        """Both are of bytes, and the padding is known."""
        node, limits = padded.producer(), bounds(clipped)
        if node is None or limits is None or len(node.inputs) < 3:
            return False
        value = scalar(node.inputs[2])
        return value is not None and limits[0] <= int(value) <= limits[1]

    def rewrite(self, op: Any, codes: ir.Value, padded: ir.Value, clipped: ir.Value) -> Any:
        """What takes its place."""
        pad, clip = padded.producer(), clipped.producer()
        assert pad is not None
        assert clip is not None
        return again(op, pad, again(op, clip, codes, *clip.inputs[1:]), *pad.inputs[1:])
