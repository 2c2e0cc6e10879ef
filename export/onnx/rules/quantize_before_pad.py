"""Padding on codes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, again, code_of, constant, scalar


class QuantizeBeforePad(Rule):
    """``QuantizeLinear(Pad(x)) → Pad(QuantizeLinear(x))``, padded with the code of what was padded with."""

    def pattern(self, op: Any, x: Any, scale: Any, zero_point: Any) -> Any:
        """What is replaced."""
        padded = op.Pad(x, _allow_other_inputs=True, _outputs=["padded"])
        return op.QuantizeLinear(padded, scale, zero_point)

    def applies(self, scale: ir.Value, zero_point: ir.Value, padded: ir.Value, **_: Any) -> bool:
        """All numbers are known."""
        value = _filling(padded)
        known = value is None or scalar(value) is not None
        return known and scalar(scale) is not None and scalar(zero_point) is not None

    def rewrite(self, op: Any, x: ir.Value, scale: ir.Value, zero_point: ir.Value, padded: ir.Value) -> Any:
        """What takes its place."""
        node, value = padded.producer(), _filling(padded)
        step, zero = scalar(scale), scalar(zero_point)
        assert node is not None
        assert step is not None
        assert zero is not None
        inputs = [op.QuantizeLinear(x, scale, zero_point), *node.inputs[1:]]
        if node.attributes.get_string("mode", "constant") == "constant":
            number = scalar(value)
            code = constant(op, code_of(number if number is not None else zero * 0, step, zero))
            inputs[2:3] = [code]
        return again(op, node, *inputs)


def _filling(padded: ir.Value) -> ir.Value | None:
    """What is padded with; None if that is left to the standard, which pads with 0."""
    node = padded.producer()
    assert node is not None
    return node.inputs[2] if len(node.inputs) > 2 else None
