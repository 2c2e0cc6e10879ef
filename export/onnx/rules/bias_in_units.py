"""Biases as the integers that ONNX Runtime makes of them, with the codes that they had before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY
from eqnet.export.onnx.registry import Operators
from eqnet.export.onnx.rules.integer_clips import bounds
from eqnet.export.onnx.rules.results import insert, is_quantized
from eqnet.export.onnx.rules.rule import constant, producer, scalar
from eqnet.export.onnx.weights import IntegerWeight
from eqnet.packed.layers import PackedConv, PackedLayer

Array = np.ndarray[Any, Any]

_MOVES = ("MaxPool", "Transpose", "Reshape", "Pad", "Identity")
"""Operators that leave codes what they are, and so may stand between a quantizer and the bounds of its codes."""

_SPARE = 2
"""Biases that are tried on each side beyond those within one unit of the sum."""

_MOST_CHANGE = 0.02
"""Part of a scale by which it may change; where few codes can be reached, any might do."""

_LEAST_ROOM = 1e-5
"""Part of a step by which scales keep clear of their bounds: kernels multiply in float32."""


class BiasInUnits(ir.passes.InPlacePass):
    """Replaces bias and scales of a convolution with narrow codes behind it, so that its bias is a whole number.

    ONNX Runtime adds the bias to a sum of integers, rounded to their unit. With codes of few bits that unit is coarse,
    and some results would go to the next code. But sums are whole numbers, too, and only a few of them are the first
    ones of a code: of the whole numbers near the bias, and of the scales near that of the channel, those are taken
    with which every sum that can be keeps its code. Where there are none, the bias stays as it is.

    Args:
        layers: of the model, by name.
    """

    def __init__(self, layers: Mapping[str, PackedLayer]) -> None:
        super().__init__()
        self._layers = layers

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes all such convolutions."""
        changed = [self._change(model.graph, node) for node in list(model.graph) if _is_narrow(node)]
        return ir.passes.PassResult(model, any(changed))

    def _change(self, graph: ir.Graph, conv: ir.Node) -> bool:
        layer = self._layers[conv.meta[LAYER_KEY]]
        dequantize = producer(conv.inputs[1], "DequantizeLinear")
        codes = _codes_behind(conv)
        if not isinstance(layer, PackedConv) or layer.bias is None or dequantize is None or codes is None:
            return False
        weight = IntegerWeight.of(layer)
        fitted = fit(Sums.of(layer, weight), codes, free=weight.scale.size > 1)
        op = Operators()
        if len(dequantize.outputs[0].uses()) > 1:  # a layer that is called again, with other codes behind it
            again = op.DequantizeLinear(*dequantize.inputs, **dequantize.attributes)
            conv.replace_input_with(1, again)
            dequantize = op.nodes[-1]
        _set(op, dequantize, 1, fitted.scale)
        _set(op, conv, 2, fitted.bias)
        insert(graph, op, conv)
        return True


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes that results are rounded to.

    Attributes:
        scale, zero_point: of the quantizer.
        low, high: those between which codes are kept.
    """

    scale: float
    zero_point: int
    low: int
    high: int

    def edges(self) -> Array:
        """Results, in steps, from which on a code is the next one, float64 [high - low]."""
        return np.arange(self.low, self.high) + 0.5 - self.zero_point


@dataclass(frozen=True, eq=False)
class Sums:
    """What an integer kernel sums up for each channel, and what it makes of that: ``sum · unit + bias``.

    Attributes:
        low, high: the least and the largest sum of codes before they are shifted, int64 [rows].
        shift: bits by which sums are shifted to the left.
        unit: of the shifted sums, float64 [rows]; negative where the scale is.
        input_scale: the part of the unit that is the same for all.
        bias: float64 [rows].
    """

    low: Array
    high: Array
    shift: int
    unit: Array
    input_scale: Array
    bias: Array

    @classmethod
    def of(cls, layer: PackedConv, weight: IntegerWeight) -> Sums:
        assert layer.input_format is not None
        assert layer.input_scale is not None
        assert layer.input_zero_point is not None
        assert layer.bias is not None
        fmt, zero = layer.input_format, int(layer.input_zero_point)
        least, most = fmt.qmin - zero, fmt.qmax - zero
        codes = weight.codes().astype(np.int64) - weight.zero_point.astype(np.int64).reshape(-1, 1)
        ends = np.stack([codes * least, codes * most])
        input_scale = layer.input_scale.numpy()
        unit = np.broadcast_to(weight.scale.astype(np.float64) * input_scale.astype(np.float64), len(codes))
        bias = layer.bias.numpy().astype(np.float64)
        return cls(ends.min(0).sum(1), ends.max(0).sum(1), weight.shift, unit, input_scale, bias)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What takes the place of scales and bias.

    Attributes:
        scale: of the weight, float32 [rows] or [].
        bias: whole multiples of the scales of weight and input, float32 [rows].
        kept: whether every sum keeps its code, [rows].
    """

    scale: Array
    bias: Array
    kept: Array


def fit(sums: Sums, codes: Codes, free: bool) -> Fitted:
    """Scales and whole biases with which sums keep their codes, as far as that can be.

    A sum v, shifted by k bits, has a code above the edge e if ``2^k v ≥ e Δ − B``, with a step Δ of the codes and the
    bias B in units. Of each edge the first sum above it is known; it stays the first one if the right side is above
    ``2^k (v − 1)`` and at most ``2^k v``. For each B in question this bounds Δ on both sides.

    Args:
        sums: of the layer.
        codes: that its results are rounded to.
        free: whether channels have scales of their own, which may be changed.
    """
    sign, unit = np.sign(sums.unit), np.abs(sums.unit)
    low, high = np.where(sign > 0, sums.low, -sums.high), np.where(sign > 0, sums.high, -sums.low)
    steps, exact = codes.scale / unit, sums.bias / unit  # a step of the codes, and the bias, in shifted units
    edges = codes.edges()
    below, above = _neighbours(np.outer(steps, edges) - exact[:, None], sums.shift, low[:, None], high[:, None])
    whole, fitted_steps, room = np.rint(exact), steps, np.full(len(unit), _LEAST_ROOM)
    reach = (1 << sums.shift) + _SPARE
    for offset in sorted(range(-reach, reach + 1), key=abs):
        tried = np.rint(exact) + offset
        least, most = _bounds_of_steps(edges, below + tried[:, None], above + tried[:, None])
        least, most = np.maximum(least, steps * (1 - _MOST_CHANGE)), np.minimum(most, steps * (1 + _MOST_CHANGE))
        middle = (least + most) / 2 if free else steps
        found = np.minimum(middle - least, most - middle) / steps
        better = found > room
        room, whole = np.where(better, found, room), np.where(better, tried, whole)
        fitted_steps = np.where(better, middle, fitted_steps)
    kept = room > _LEAST_ROOM
    scale = (sign * codes.scale / fitted_steps / sums.input_scale).astype(np.float32)
    bias = np.where(kept, whole * np.abs(scale.astype(np.float64)) * sums.input_scale, sums.bias)
    return Fitted(scale if free else scale[0], bias.astype(np.float32), kept)


def _neighbours(thresholds: Array, shift: int, low: Array, high: Array) -> tuple[Array, Array]:
    """The last sum below each threshold [rows, edges], and the first one at it or above, shifted; infinite if none."""
    first = np.ceil(thresholds / (1 << shift))
    below = np.where(first > low, np.minimum(first - 1, high), -np.inf)
    above = np.where(first > high, np.inf, np.maximum(first, low))
    return below * (1 << shift), above * (1 << shift)


def _bounds_of_steps(edges: Array, below: Array, above: Array) -> tuple[Array, Array]:
    """The least and the largest Δ [rows] with ``below < edges · Δ ≤ above`` [rows, edges]."""
    ends = below / edges, above / edges
    return np.where(edges > 0, *ends).max(1), np.where(edges > 0, *ends[::-1]).min(1)


def _set(op: Operators, node: ir.Node, index: int, array: Array) -> None:
    """Makes ``array`` an input of ``node``, under the name of what was there unless others read that."""
    value = node.inputs[index]
    assert value is not None
    if len(value.uses()) == 1:
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
    else:
        node.replace_input_with(index, constant(op, array))


def _is_narrow(node: ir.Node) -> bool:
    """Whether ``node`` is a convolution of a layer whose result is rounded to codes of fewer than 8 bits."""
    return node.op_type == "Conv" and LAYER_KEY in node.meta and _codes_behind(node) is not None


def _codes_behind(conv: ir.Node) -> Codes | None:
    """What the result is rounded to; None if that is nothing, or any code of 8 bits."""
    value = conv.outputs[0]
    if not is_quantized(value):
        return None
    quantize = next(iter(value.uses())).node
    scale, zero_point = scalar(quantize.inputs[1]), scalar(quantize.inputs[2])
    after = quantize.outputs[0]
    while (node := _only_reader(after)) is not None and node.op_type in _MOVES:
        after = node.outputs[0]
    if node is None or node.op_type != "Clip" or scale is None or zero_point is None:
        return None
    ends = bounds(node.outputs[0])
    return Codes(float(scale), int(zero_point), *ends) if ends is not None else None


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None
