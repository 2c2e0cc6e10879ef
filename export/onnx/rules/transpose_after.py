"""Transposes after what does not care for the order of its input."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, again, number


class _AfterElementwise(Rule):
    """``Elementwise(Transpose(x)) → Transpose(Elementwise(x))``; all its other inputs are single numbers."""

    op_type = ""

    def __init__(self) -> None:
        super().__init__(remove_nodes=False)  # what is not used any more is removed in the end

    def pattern(self, op: Any, x: Any, perm: Any) -> Any:
        """What is replaced."""
        transposed = op.Transpose(x, perm=perm)
        return getattr(op, self.op_type)(transposed, _allow_other_inputs=True, _outputs=["y"])

    def applies(self, y: ir.Value, **_: Any) -> bool:
        """Other inputs have no order."""
        node = y.producer()
        assert node is not None
        others = [number(value) for value in node.inputs[1:] if value is not None]
        return all(other is not None and other.size == 1 and other.ndim <= 1 for other in others)

    def rewrite(self, op: Any, x: ir.Value, perm: ir.Attr, y: ir.Value) -> Any:
        """What takes its place."""
        node = y.producer()
        assert node is not None
        return op.Transpose(again(op, node, x, *node.inputs[1:]), perm=list(perm.as_ints()))


class _AfterBoth(Rule):
    """``Both(Transpose(a), Transpose(b)) → Transpose(Both(a, b))``."""

    op_type = ""

    def __init__(self) -> None:
        super().__init__(remove_nodes=False)

    def pattern(self, op: Any, a: Any, b: Any, first: Any, second: Any) -> Any:
        """What is replaced."""
        return getattr(op, self.op_type)(op.Transpose(a, perm=first), op.Transpose(b, perm=second))

    def applies(self, first: ir.Attr, second: ir.Attr, **_: Any) -> bool:
        """Both are transposed in the same way, and none is spread over dimensions that it has not."""
        return list(first.as_ints()) == list(second.as_ints())

    def rewrite(self, op: Any, a: ir.Value, b: ir.Value, first: ir.Attr, second: ir.Attr) -> Any:
        """What takes its place."""
        return op.Transpose(getattr(op, self.op_type)(a, b), perm=list(first.as_ints()))


_ELEMENTWISE = (
    *("Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Gelu", "Softplus", "Mish"),
    *("Neg", "Abs", "Exp", "Sqrt", "Identity", "Cast", "QuantizeLinear", "Add", "Sub", "Mul", "Div", "Pow"),
)

_BOTH = ("Add", "Sub", "Mul", "Div", "Max", "Min")

TRANSPOSE_AFTER_ELEMENTWISE = [
    type(f"TransposeAfter{name}", (_AfterElementwise,), {"op_type": name}) for name in _ELEMENTWISE
]
"""One rule for each operator with one input that has an order."""

TRANSPOSE_AFTER_BOTH = [type(f"TransposeAfterBoth{name}", (_AfterBoth,), {"op_type": name}) for name in _BOTH]
"""One rule for each operator with two."""
