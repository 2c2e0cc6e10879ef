"""Operators that move values about, on codes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, again, number


class _QuantizeBefore(Rule):
    """``QuantizeLinear(Move(x)) → Move(QuantizeLinear(x))``.

    The results of such operators are some of their inputs, so that the codes are the same, and a quarter of the bytes
    is moved. What was before them has a quantized result then.
    """

    op_type = ""

    def pattern(self, op: Any, x: Any, scale: Any, zero_point: Any) -> Any:
        """What is replaced."""
        moved = getattr(op, self.op_type)(x, _allow_other_inputs=True, _outputs=["moved"])
        return op.QuantizeLinear(moved, scale, zero_point)

    def applies(self, scale: ir.Value, moved: ir.Value, **_: Any) -> bool:
        """There is one scale for all."""
        step, node = number(scale), moved.producer()
        return step is not None and step.ndim == 0 and node is not None and len(node.outputs) == 1

    def rewrite(self, op: Any, x: ir.Value, scale: ir.Value, zero_point: ir.Value, moved: ir.Value) -> Any:
        """What takes its place."""
        node = moved.producer()
        assert node is not None
        return again(op, node, op.QuantizeLinear(x, scale, zero_point), *node.inputs[1:])


_MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand", "Identity")

QUANTIZE_BEFORE_MOVES = [type(f"QuantizeBefore{name}", (_QuantizeBefore,), {"op_type": name}) for name in _MOVES]
"""One rule for each such operator."""
