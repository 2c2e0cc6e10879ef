"""From nodes that stand for packed layers to the operators of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

import eqnet.export.onnx.layers  # noqa: F401  # registers the writers
from eqnet.export.onnx.options import LayerForm, OnnxOptions
from eqnet.export.onnx.registry import Operators, Site, Writer, layer_writer, product_writer, weight_writer
from eqnet.export.onnx.translation import DOMAIN, LAYER, LAYER_PRODUCT, LAYER_WEIGHT
from eqnet.export.onnx.weight_products import find_weight_products
from eqnet.packed.layers import PackedLayer

LAYER_KEY = "eqnet.layer"
"""Under which the node of a layer's product, and its result, keep the layer's name in ``meta``."""

_WRITERS: Mapping[str, Callable[[PackedLayer], Writer]] = {
    LAYER: layer_writer,
    LAYER_WEIGHT: weight_writer,
    LAYER_PRODUCT: product_writer,
}

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulNBits")


def lower(
    graph: ir.Graph,
    layers: Mapping[str, PackedLayer],
    options: OnnxOptions,
    report: Callable[[str, int, int], None] | None = None,
) -> dict[str, LayerForm]:
    """Replaces all such nodes.

    Returns:
        How each layer was written, by name.
    """
    find_weight_products(graph)
    forms: dict[str, LayerForm] = {}
    names = set(graph.initializers)
    shared: dict[tuple[int, str], ir.Value] = {}
    nodes = [node for node in graph if node.domain == DOMAIN]
    for done, node in enumerate(nodes):
        if report is not None:
            report("Exporting", done, len(nodes))
        path = node.attributes["path"].as_string()
        form = _replace(graph, node, layers[path], options, names, shared)
        if form is not None:
            forms.setdefault(path, form)
    if report is not None:
        report("Exporting", len(nodes), len(nodes))
    graph.opset_imports.pop(DOMAIN, None)
    return forms


def _replace(
    graph: ir.Graph,
    node: ir.Node,
    layer: PackedLayer,
    options: OnnxOptions,
    names: set[str],
    shared: dict[tuple[int, str], ir.Value],
) -> LayerForm | None:
    """Writes one layer in the place of its node."""
    old = node.outputs[0]
    is_call = node.op_type == LAYER
    builder = Operators()
    rank = len(old.shape) if old.shape is not None else 0
    x = node.inputs[0] if node.op_type != LAYER_WEIGHT else None
    site = Site(layer, x, builder, options, old.dtype or ir.DataType.FLOAT, rank, _names=names, _shared=shared)
    y = _in_float32(site, _WRITERS[node.op_type](layer))
    y.shape, y.type = old.shape, old.type
    for initializer in builder.initializers:
        graph.register_initializer(initializer)
    for domain, version in builder.used_opsets:
        graph.opset_imports.setdefault(domain, version or 1)
    graph.insert_before(node, builder.nodes)
    if is_call:
        _mark(builder.nodes, y, layer.path)
    _take_name(y, old)
    old.replace_all_uses_with(y, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return site.form


def _in_float32(site: Site, writer: Callable[[Site], ir.Value]) -> ir.Value:
    """Models in other types compute their packed layers in float32."""
    if site.dtype == ir.DataType.FLOAT:
        return writer(site)
    dtype, site.dtype = site.dtype, ir.DataType.FLOAT
    if site.x is not None and site.x.dtype is not None and site.x.dtype.is_floating_point():
        site.x = site.op.Cast(site.x, to=ir.DataType.FLOAT)
    return site.op.Cast(writer(site), to=dtype)


def _mark(nodes: Sequence[ir.Node], y: ir.Value, name: str) -> None:
    y.meta[LAYER_KEY] = name
    products = [node for node in nodes if node.op_type in _PRODUCTS]
    for node in products[-1:]:
        node.name = name
        node.meta[LAYER_KEY] = name


def _take_name(y: ir.Value, old: ir.Value) -> None:
    """Outputs of the graph are known by their names."""
    if old.is_graph_output():
        y.name, old.name = old.name, None
