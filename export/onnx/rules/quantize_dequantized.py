"""Codes that are made again."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import Rule, scalar


class QuantizeDequantized(Rule):
    """``QuantizeLinear(DequantizeLinear(codes)) → codes``, where scales and zero points are the same."""

    def __init__(self) -> None:
        super().__init__(remove_nodes=False)  # what is not used any more is removed in the end

    def pattern(self, op: Any, codes: Any, scale: Any, zero_point: Any, scale2: Any, zero_point2: Any) -> Any:
        """What is replaced."""
        return op.QuantizeLinear(op.DequantizeLinear(codes, scale, zero_point), scale2, zero_point2)

    def applies(self, **values: ir.Value) -> bool:
        """Scales and zero points are known, and the same."""
        first = scalar(values["scale"]), scalar(values["zero_point"])
        second = scalar(values["scale2"]), scalar(values["zero_point2"])
        return None not in first and first == second

    def rewrite(self, op: Any, codes: ir.Value, **_: ir.Value) -> Any:
        """What takes its place."""
        return op.Identity(codes)
