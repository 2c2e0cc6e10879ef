"""Sums of layers' results on codes of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY
from eqnet.export.onnx.options import LayerForm
from eqnet.export.onnx.ranges import Range
from eqnet.export.onnx.registry import Operators
from eqnet.export.onnx.rules.results import Result, is_quantized, results, sums
from eqnet.export.onnx.rules.rule import constant, scalar
from eqnet.packed.layers import PackedLayer

_CLIPPED = 0.2
"""Part of a range that may lie outside of that of a quantizer which is taken for it.

Quantizers are fitted to the values that they round, and leave out the rare ones at the ends.
"""


class SumsOnCodes(ir.passes.InPlacePass):
    """Rounds what residual connections add, their sums, and what is averaged, to 8 bits: ONNX Runtime does so on codes.

    A convolution whose result is added or averaged gets ``QuantizeLinear → DequantizeLinear`` behind it, and so does a
    sum of such results. Convolutions and sums are integer kernels then, and nothing has to be quantized anew for each
    layer that reads it. Where such a layer quantizes the value to 8 bits anyway, its codes are taken.

    Args:
        layers: of the model, by name.
        ranges: of the results of convolutions and sums, or of the activations behind them.
        forms: how layers are written, by name; brought up to date.
    """

    def __init__(
        self, layers: Mapping[str, PackedLayer], ranges: Mapping[ir.Value, Range], forms: dict[str, LayerForm]
    ) -> None:
        super().__init__()
        self._layers = layers
        self._ranges = ranges
        self._forms = forms

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes all such convolutions and sums."""
        added = [result for result in results(model.graph, self._layers) if result.is_taken_as_codes()]
        for result in [*added, *sums(model.graph, added)]:
            if result.value in self._ranges and not is_quantized(result.value):
                self._round(model.graph, result)
        return ir.passes.PassResult(model, bool(added))

    def _round(self, graph: ir.Graph, result: Result) -> None:
        value, op, seen = result.value, Operators(), self._ranges[result.value]
        scale, zero_point = _quantizer_of_reader(value, seen) or _quantizer(op, seen)
        readers = [(use.node, use.idx) for use in value.uses()]
        rounded = op.DequantizeLinear(op.QuantizeLinear(value, scale, zero_point), scale, zero_point)
        rounded.shape, rounded.type = value.shape, value.type
        node = value.producer()
        assert node is not None
        for initializer in op.initializers:
            graph.register_initializer(initializer)
        graph.insert_after(node, op.nodes)
        for reader, index in readers:
            reader.replace_input_with(index, rounded)
        name = result.node.meta.get(LAYER_KEY)
        if name is not None:
            self._forms[name] = LayerForm(True, "integers, with the result rounded to 8 bits")


def _quantizer_of_reader(value: ir.Value, seen: Range) -> tuple[ir.Value, ir.Value] | None:
    """Scale and zero point of a reader that quantizes ``value`` to 8 bits and leaves nearly all of its range."""
    low, high = seen.whole()
    slack = _CLIPPED * (high - low)
    for use in value.uses():
        node = use.node
        if node.op_type != "QuantizeLinear" or any(after.node.op_type == "Clip" for after in node.outputs[0].uses()):
            continue
        scale, zero = scalar(node.inputs[1]), scalar(node.inputs[2])
        if scale is None or zero is None:
            continue
        if -int(zero) * scale <= low + slack and (255 - int(zero)) * scale >= high - slack:
            return node.inputs[1], node.inputs[2]  # type: ignore[return-value]
    return None


def _quantizer(op: Operators, seen: Range) -> tuple[ir.Value, ir.Value]:
    """One whose 256 codes span the range."""
    low, high = seen.whole()
    scale = np.float32((high - low) / 255) or np.float32(1)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return constant(op, scale), constant(op, zero)
