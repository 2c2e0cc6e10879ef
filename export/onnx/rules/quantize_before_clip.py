"""Clipping on codes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, code_of, constant, scalar


class QuantizeBeforeClip(Rule):
    """``QuantizeLinear(Clip(x, low, high)) → Clip(QuantizeLinear(x), code of low, code of high)``.

    Both are monotone, so that the codes are the same. A convolution before them is an integer kernel then.
    """

    def pattern(self, op: Any, x: Any, scale: Any, zero_point: Any) -> Any:
        """What is replaced."""
        clipped = op.Clip(x, _allow_other_inputs=True, _outputs=["clipped"])
        return op.QuantizeLinear(clipped, scale, zero_point)

    def applies(self, scale: ir.Value, zero_point: ir.Value, clipped: ir.Value, **_: Any) -> bool:
        """All numbers are known, and codes are bytes."""
        zero = scalar(zero_point)
        bounds = clipped.producer().inputs[1:]  # type: ignore[union-attr]
        known = all(bound is None or scalar(bound) is not None for bound in bounds)
        return known and scalar(scale) is not None and zero is not None and zero.dtype == "uint8"

    def rewrite(self, op: Any, x: ir.Value, scale: ir.Value, zero_point: ir.Value, clipped: ir.Value) -> Any:
        """What takes its place."""
        step, zero = scalar(scale), scalar(zero_point)
        assert step is not None
        assert zero is not None
        bounds = [scalar(bound) for bound in clipped.producer().inputs[1:]]  # type: ignore[union-attr]
        codes = op.QuantizeLinear(x, scale, zero_point)
        return op.Clip(codes, *(None if b is None else constant(op, code_of(b, step, zero)) for b in bounds))
