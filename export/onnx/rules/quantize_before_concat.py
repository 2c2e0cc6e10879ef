"""Concatenation of codes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, again, number


class QuantizeBeforeConcat(Rule):
    """``QuantizeLinear(Concat(a, b)) → Concat(QuantizeLinear(a), QuantizeLinear(b))``."""

    def pattern(self, op: Any, scale: Any, zero_point: Any) -> Any:
        """What is replaced."""
        joined = op.Concat(_allow_other_inputs=True, _outputs=["joined"])
        return op.QuantizeLinear(joined, scale, zero_point)

    def applies(self, scale: ir.Value, **_: Any) -> bool:
        """There is one scale for all."""
        step = number(scale)
        return step is not None and step.ndim == 0

    def rewrite(self, op: Any, scale: ir.Value, zero_point: ir.Value, joined: ir.Value) -> Any:
        """What takes its place."""
        node = joined.producer()
        assert node is not None
        parts = [op.QuantizeLinear(part, scale, zero_point) for part in node.inputs]
        return again(op, node, *parts)
