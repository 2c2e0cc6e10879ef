"""Convolutions with a kernel of 1 as products of matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY
from eqnet.export.onnx.options import OnnxOptions
from eqnet.export.onnx.products import gemm
from eqnet.export.onnx.registry import Operators, Site
from eqnet.export.onnx.rules.results import insert, replace, results
from eqnet.export.onnx.rules.rule import producer
from eqnet.packed.layers import PackedConv, PackedLayer

_END = np.iinfo(np.int64).max


class PointwiseAsGemm(ir.passes.InPlacePass):
    """``Conv(DequantizeLinear(codes))`` with a kernel of 1, whose result is not quantized, as ``Gemm``.

    ONNX Runtime has an integer kernel of convolutions with a quantized result alone, but one of Gemm that gives it in
    floating point. The codes get their channels last for it, as ONNX Runtime's convolutions have them anyway.

    Args:
        layers: of the model, by name.
        options: of the file.
    """

    def __init__(self, layers: Mapping[str, PackedLayer], options: OnnxOptions) -> None:
        super().__init__()
        self._layers = layers
        self._options = options

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes all such convolutions."""
        changed = [self._change(model.graph, result.node) for result in results(model.graph, self._layers)]
        return ir.passes.PassResult(model, any(changed))

    def _change(self, graph: ir.Graph, conv: ir.Node) -> bool:
        layer, old = self._layers[conv.meta[LAYER_KEY]], conv.outputs[0]
        dequantize = producer(conv.inputs[0], "DequantizeLinear")
        if not isinstance(layer, PackedConv) or dequantize is None:
            return False
        if {*layer.kernel_size, layer.groups} != {1} or any(conv.attributes.get_ints("pads", ()) or ()):
            return False
        if old.shape is None or not all(isinstance(size, int) for size in old.shape[1:]):
            return False
        sizes = [int(size) for size in old.shape[1:] if isinstance(size, int)]
        site = Site(
            layer, None, Operators(), self._options, ir.DataType.FLOAT, len(old.shape), None, set(graph.initializers)
        )
        result = _product(site, layer, dequantize, sizes)
        insert(graph, site.op, conv)
        for node in site.op.nodes:
            if node.op_type == "Gemm":
                node.name, node.meta[LAYER_KEY] = layer.path, layer.path
        result.meta.update(old.meta)
        replace(graph, conv, result)
        return True


def _product(site: Site, layer: PackedConv, dequantize: ir.Node, sizes: list[int]) -> ir.Value:
    """[N, in, ...] → [N, out, ...]; ``sizes`` are those of a sample of the result."""
    codes, scale, zero_point = dequantize.inputs
    channels, *positions = sizes
    dimensions = len(positions)
    codes = site.op.Transpose(codes, perm=[0, *range(2, dimensions + 2), 1])
    if {*layer.stride} != {1}:
        axes = range(1, dimensions + 1)
        bounds = ([0] * dimensions, [_END] * dimensions, axes, layer.stride)
        names = ("starts", "ends", "axes", "steps")
        parts = [site.constant(np.array(bound), name) for bound, name in zip(bounds, names, strict=True)]
        codes = site.op.Slice(codes, *parts)
    codes = site.op.Reshape(codes, site.constant(np.array([-1, layer.in_channels]), "rows"))
    product = gemm(site, site.op.DequantizeLinear(codes, scale, zero_point))
    image = site.op.Reshape(product, site.constant(np.array([-1, *positions, channels]), "shape"))
    return site.op.Transpose(image, perm=[0, dimensions + 1, *range(1, dimensions + 1)])
