"""Means over all positions, on codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.rules.results import is_mean_of_positions, is_quantized
from eqnet.export.onnx.rules.rule import Rule, constant


class MeanOfCodes(Rule):
    """``QuantizeLinear(ReduceMean(DequantizeLinear(codes)))`` over all positions, with a ``GlobalAveragePool`` instead.

    ONNX Runtime has an integer kernel of that alone.
    """

    def __init__(self) -> None:
        super().__init__(remove_nodes=False)  # what is not used any more is removed in the end

    def pattern(
        self, op: Any, codes: Any, scale: Any, zero_point: Any, axes: Any, scale2: Any, zero_point2: Any
    ) -> Any:
        """What is replaced."""
        mean = op.ReduceMean(op.DequantizeLinear(codes, scale, zero_point), axes, _outputs=["mean"])
        return op.QuantizeLinear(mean, scale2, zero_point2)

    def applies(self, mean: ir.Value, **_: Any) -> bool:
        """It is over all positions, and nothing else reads it."""
        node = mean.producer()
        return node is not None and is_mean_of_positions(node) and is_quantized(mean)

    def rewrite(self, op: Any, codes: ir.Value, mean: ir.Value, **values: ir.Value) -> Any:
        """What takes its place."""
        node = mean.producer()
        assert node is not None
        pooled = op.GlobalAveragePool(op.DequantizeLinear(codes, values["scale"], values["zero_point"]))
        result = op.QuantizeLinear(pooled, values["scale2"], values["zero_point2"])
        if node.attributes.get_int("keepdims", 1):
            return result
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        assert shape is not None
        last = op.Transpose(result, perm=[0, *range(2, len(shape)), 1])  # as the kernel has them
        return op.Reshape(last, constant(op, np.array([-1, shape[1]])))
