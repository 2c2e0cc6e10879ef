"""Means over positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, again, constant, number


class MeanOfTranspose(Rule):
    """``ReduceMean(Transpose(x)) → ReduceMean(x)`` over the same dimensions, where that leaves the others in order."""

    def __init__(self) -> None:
        super().__init__(remove_nodes=False)  # what is not used any more is removed in the end

    def pattern(self, op: Any, x: Any, perm: Any, axes: Any) -> Any:
        """What is replaced."""
        return op.ReduceMean(op.Transpose(x, perm=perm), axes, _outputs=["mean"])

    def applies(self, perm: ir.Attr, axes: ir.Value, **_: Any) -> bool:
        """The dimensions are known, and their order does not change."""
        given = number(axes)
        if given is None or not given.size:
            return False
        order = perm.as_ints()
        kept = [order[i] for i in range(len(order)) if i not in {int(axis) % len(order) for axis in given}]
        return kept == sorted(kept)

    def rewrite(self, op: Any, x: ir.Value, perm: ir.Attr, axes: ir.Value, mean: ir.Value) -> Any:
        """What takes its place."""
        node, given, order = mean.producer(), number(axes), perm.as_ints()
        assert node is not None
        assert given is not None
        over = sorted(order[int(axis) % len(order)] for axis in given)
        result = again(op, node, x, constant(op, np.array(over)))
        if not node.attributes.get_int("keepdims", 1):
            return result
        return op.Transpose(result, perm=list(order))
