"""Results in floating point by way of codes of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY
from eqnet.export.onnx.options import LayerForm, OnnxOptions
from eqnet.export.onnx.ranges import Range
from eqnet.export.onnx.registry import Operators, Site
from eqnet.export.onnx.rules.results import Result, insert, replace, results
from eqnet.export.onnx.weights import IntegerWeight
from eqnet.packed.layers import PackedLayer


class ResultByChannel(ir.passes.InPlacePass):
    """Rounds the result of a convolution that is not quantized to 8 bits, in the range that each channel has.

    ``Conv(x, w) + b → DequantizeLinear(QuantizeLinear(Conv(x, w / σ) + b / σ, 1), 1) · σ`` with a factor σ for each
    channel: ONNX Runtime has an integer kernel of convolutions with a quantized result alone, with one scale. An
    activation that clips the result is part of the range. The factors are repeated for a line of positions, over which
    they are multiplied with at once: many times as fast as by DequantizeLinear, where channels are last.

    Args:
        layers: of the model, by name.
        ranges: of the results, or of the activations behind them.
        options: of the file.
        forms: how layers are written, by name; brought up to date.
    """

    def __init__(
        self,
        layers: Mapping[str, PackedLayer],
        ranges: Mapping[ir.Value, Range],
        options: OnnxOptions,
        forms: dict[str, LayerForm],
    ) -> None:
        super().__init__()
        self._layers = layers
        self._ranges = ranges
        self._options = options
        self._forms = forms

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes all such convolutions whose range is known; the others stay in floating point."""
        found = results(model.graph, self._layers)
        for result in found:
            name = result.node.meta[LAYER_KEY]
            if result.value in self._ranges:
                self._change(model.graph, result, self._layers[name], self._ranges[result.value])
                form = LayerForm(True, "integers, with the result rounded to 8 bits in each channel's range")
            else:
                form = LayerForm(False, "floating point: no integer kernel has such a result, and it is not rounded")
            self._forms[name] = form
        return ir.passes.PassResult(model, bool(found))

    def _change(self, graph: ir.Graph, result: Result, layer: PackedLayer, seen: Range) -> None:
        last = result.activation or result.node
        site = Site(layer, None, Operators(), self._options, ir.DataType.FLOAT, 0, None, set(graph.initializers))
        rounded = _rounded(site, result.node, layer, seen)
        insert(graph, site.op, last)
        if result.activation is None:
            rounded.meta.update(result.node.outputs[0].meta)
        for node in site.op.nodes:
            if node.op_type == "Conv":
                node.name, node.meta[LAYER_KEY] = layer.path, layer.path
        replace(graph, last, rounded)


def _rounded(site: Site, conv: ir.Node, layer: PackedLayer, seen: Range) -> ir.Value:
    """The result of ``conv`` by way of its codes."""
    assert layer.input_scale is not None
    op, weight = site.op, IntegerWeight.of(layer)
    unit = np.abs(weight.scale) * layer.input_scale.numpy()
    one_sided = not seen.low.any()
    steps = seen.high / 255 if one_sided else np.maximum(-seen.low / 128, seen.high / 127)
    step = np.maximum(steps, unit).astype(np.float32)
    zero = 0 if one_sided else 128
    shape = tuple(layer.shape)
    scaled = weight.shaped(shape).divided(step)
    inputs = [conv.inputs[0], scaled.write(site, 0)]
    if layer.bias is not None:
        inputs.append(site.constant((layer.bias.numpy() / step).astype(np.float32), "bias"))
    y = op.op("Conv", inputs, attributes=dict(conv.attributes))
    unscaled = site.constant(np.array(1, np.float32), "one"), site.constant(np.array(zero, np.uint8), "middle")
    dimensions = len(shape) - 2
    codes = op.Transpose(op.QuantizeLinear(y, *unscaled), perm=[0, *range(2, dimensions + 2), 1])
    factors = site.constant(step, "output_scale")
    width = conv.outputs[0].shape[-1] if conv.outputs[0].shape is not None else None
    if isinstance(width, int):
        factors = op.Expand(factors, site.constant(np.array([width, len(step)]), "line"))
    result = op.Mul(op.DequantizeLinear(codes, *unscaled), factors)
    return op.Transpose(result, perm=[0, dimensions + 1, *range(1, dimensions + 1)])
