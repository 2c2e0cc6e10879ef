"""Results in floating point by way of codes of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY
from eqnet.export.onnx.options import LayerForm, OnnxOptions
from eqnet.export.onnx.ranges import Range, channel_ranges
from eqnet.export.onnx.registry import Operators, Site
from eqnet.export.onnx.rules.results import insert, is_quantized, only_reader, replace
from eqnet.export.onnx.rules.rule import number, producer, scalar
from eqnet.export.onnx.weights import IntegerWeight, is_grouped
from eqnet.packed.layers import PackedConv, PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

_CODES = 255
"""Steps between the least and the largest code."""


class ResultByChannel(ir.passes.InPlacePass):
    """Rounds the result of a convolution that is not quantized to 8 bits, in the range that each channel has.

    ``Conv(x, w) + b → DequantizeLinear(QuantizeLinear(Conv(x, w / σ) + b / σ + z, 1), σ, z)`` with a scale σ and a zero
    point z for each channel. ONNX Runtime has an integer kernel of convolutions with a quantized result alone, and that
    has one scale. An activation that clips the result is part of the range.

    Args:
        packed: the model.
        calibration: inputs of it, for the ranges.
        options: of the file.
        forms: how layers are written, by name; brought up to date.
    """

    def __init__(
        self,
        packed: PackedModel,
        calibration: Sequence[ExampleInputs],
        options: OnnxOptions,
        forms: dict[str, LayerForm],
    ) -> None:
        super().__init__()
        self._packed = packed
        self._calibration = calibration
        self._options = options
        self._forms = forms

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes all such convolutions, but none without inputs to calibrate with."""
        layers = self._packed.layers
        nodes = [node for node in model.graph if _needs_codes(node, layers)]
        names = {node.meta[LAYER_KEY] for node in nodes}
        if not self._calibration or self._options.exact:
            reason = "asked to be exact" if self._options.exact else "without inputs to calibrate with"
            self._forms |= dict.fromkeys(names, LayerForm(False, f"floating point: its result is, {reason}"))
            return ir.passes.PassResult(model, False)
        ranges = channel_ranges(self._packed, names, self._calibration)
        for node in nodes:
            name = node.meta[LAYER_KEY]
            self._change(model.graph, node, layers[name], ranges[name])
            self._forms[name] = LayerForm(True, "integers, with the result rounded to 8 bits in each channel's range")
        return ir.passes.PassResult(model, bool(nodes))

    def _change(self, graph: ir.Graph, conv: ir.Node, layer: PackedLayer, seen: Range) -> None:
        activation = _activation(conv.outputs[0])
        last = conv if activation is None else activation
        site = Site(layer, None, Operators(), self._options, ir.DataType.FLOAT, 0, None, set(graph.initializers))
        result = _rounded(site, conv, layer, seen.clipped(*_bounds(activation)))
        insert(graph, site.op, last)
        if activation is None:
            result.meta.update(conv.outputs[0].meta)
        for node in site.op.nodes:
            if node.op_type == "Conv":
                node.name, node.meta[LAYER_KEY] = layer.path, layer.path
        replace(graph, last, result)


def _needs_codes(node: ir.Node, layers: Mapping[str, PackedLayer]) -> bool:
    if node.op_type != "Conv" or LAYER_KEY not in node.meta or is_quantized(node.outputs[0]):
        return False
    layer = layers[node.meta[LAYER_KEY]]
    return isinstance(layer, PackedConv) and layer.input_format is not None and not is_grouped(layer)


def _activation(result: ir.Value) -> ir.Node | None:
    """What clips ``result`` from below at 0, and is all that reads it."""
    if relu := only_reader(result, "Relu"):
        return relu
    clip = only_reader(result, "Clip")
    return clip if clip is not None and scalar(clip.inputs[1]) == 0 else None


def _bounds(activation: ir.Node | None) -> tuple[float, float]:
    if activation is None:
        return -np.inf, np.inf
    highest = scalar(activation.inputs[2]) if len(activation.inputs) > 2 else None
    return 0.0, np.inf if highest is None else float(highest)


def _rounded(site: Site, conv: ir.Node, layer: PackedLayer, seen: Range) -> ir.Value:
    """The result of ``conv`` by way of its codes."""
    assert layer.input_scale is not None
    weight = IntegerWeight.of(layer)
    unit = np.abs(weight.scale) * layer.input_scale.numpy()
    step = np.maximum((seen.high - seen.low) / _CODES, unit).astype(np.float32)
    zero = np.rint(-seen.low / step).astype(np.uint8)
    shape = tuple(layer.shape)
    scaled = weight.arranged(lambda codes: codes.reshape(shape)).divided(step)
    bias = zero + (layer.bias.numpy() / step if layer.bias is not None else 0)
    bias = site.constant(bias.astype(np.float32), "bias")
    inputs = [conv.inputs[0], scaled.write(site, 0, with_zero_point=False), bias]
    y = site.op.op("Conv", inputs, attributes=dict(conv.attributes))
    one, none = site.constant(np.array(1, np.float32), "one"), site.constant(np.array(0, np.uint8), "none")
    codes = site.op.QuantizeLinear(y, one, none)
    steps, zeros = site.constant(step, "output_scale"), site.constant(zero, "output_zero_point")
    return site.op.DequantizeLinear(codes, steps, zeros, axis=1)
