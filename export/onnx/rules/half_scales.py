"""Scales in half of their bytes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.rules.rule import number

_WORTH_IT = 32
"""Scales from which on two bytes less for each are more than what another operator takes."""


class HalfScales(ir.passes.InPlacePass):
    """Stores scales of channels that float16 holds exactly in float16, with a Cast that is computed at load."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes all such scales."""
        scales: dict[ir.Value, list[ir.Node]] = {}
        for node in model.graph:
            if node.op_type == "DequantizeLinear" and "block_size" not in node.attributes:
                scale = node.inputs[1]
                if scale is not None and scale.is_initializer() and _fits(scale):
                    scales.setdefault(scale, []).append(node)
        for scale, nodes in scales.items():
            _halve(model.graph, scale, nodes)
        return ir.passes.PassResult(model, bool(scales))


def _fits(scale: ir.Value) -> bool:
    array = number(scale)
    if array is None or array.dtype != np.float32 or array.size < _WORTH_IT:
        return False
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16).astype(np.float32) == array).all())


def _halve(graph: ir.Graph, scale: ir.Value, nodes: list[ir.Node]) -> None:
    array = number(scale)
    assert array is not None
    scale.const_value = ir.tensor(array.astype(np.float16))
    scale.dtype = ir.DataType.FLOAT16
    cast = ir.Node("", "Cast", [scale], attributes=[ir.AttrInt64("to", ir.DataType.FLOAT)])
    graph.insert_before(nodes[0], cast)
    for node in nodes:
        node.replace_input_with(1, cast.outputs[0])
