"""ReLU on codes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, scalar


class QuantizeBeforeRelu(Rule):
    """``QuantizeLinear(Relu(x)) → Clip(QuantizeLinear(x), zero point)``, and without the Clip if that is 0.

    Both are monotone, so that the codes are the same. A convolution before them is an integer kernel then.
    """

    def pattern(self, op: Any, x: Any, scale: Any, zero_point: Any) -> Any:
        """What is replaced."""
        return op.QuantizeLinear(op.Relu(x), scale, zero_point)

    def applies(self, zero_point: ir.Value, **_: Any) -> bool:
        """The zero point is known, and is a code."""
        zero = scalar(zero_point)
        return zero is not None and zero.dtype == "uint8"

    def rewrite(self, op: Any, x: ir.Value, scale: ir.Value, zero_point: ir.Value) -> Any:
        """What takes its place."""
        zero = scalar(zero_point)
        codes = op.QuantizeLinear(x, scale, zero_point)
        return codes if not zero else op.Clip(codes, zero_point)
