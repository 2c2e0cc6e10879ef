"""Transposes of transposes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule


class CancelTransposes(Rule):
    """``Transpose(Transpose(x)) → Transpose(x)``, or x itself if that is the same."""

    def __init__(self) -> None:
        super().__init__(remove_nodes=False)  # what is not used any more is removed in the end

    def pattern(self, op: Any, x: Any, first: Any, second: Any) -> Any:
        """What is replaced."""
        return op.Transpose(op.Transpose(x, perm=first), perm=second)

    def rewrite(self, op: Any, x: ir.Value, first: ir.Attr, second: ir.Attr) -> Any:
        """What takes its place."""
        perm = [first.as_ints()[axis] for axis in second.as_ints()]
        return op.Identity(x) if perm == sorted(perm) else op.Transpose(x, perm=perm)
