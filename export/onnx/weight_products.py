"""Products with the weight of a layer outside of it, as language models take them with that of their embedding."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from eqnet.export.onnx.translation import DOMAIN, LAYER_PRODUCT, LAYER_WEIGHT


def find_weight_products(graph: ir.Graph) -> None:
    """Makes one node, ``LayerProduct(x) {path}``, of each product of ``x`` with a layer's weight, transposed.

    It is there for what torch makes of ``F.linear``: ``MatMul`` with a ``Transpose`` of the weight, and ``Gemm``.
    """
    for weight in [node for node in graph if node.domain == DOMAIN and node.op_type == LAYER_WEIGHT]:
        for product in list(_products(weight.outputs[0])):
            x, *bias = (value for value in (product.inputs[0], *product.inputs[2:]) if value is not None)
            old = product.outputs[0]
            path = ir.AttrString("path", weight.attributes["path"].as_string())
            nodes = [ir.Node(DOMAIN, LAYER_PRODUCT, [x], attributes=[path])]
            if bias:
                nodes[0].outputs[0].shape, nodes[0].outputs[0].type = old.shape, old.type
                nodes.append(ir.Node("", "Add", [nodes[0].outputs[0], *bias]))
            new = nodes[-1].outputs[0]
            new.shape, new.type, new.name = old.shape, old.type, old.name
            graph.insert_before(product, nodes)
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            graph.remove(product, safe=True)


def _products(weight: ir.Value) -> Iterator[ir.Node]:
    for reader in weight.consumers():
        if reader.op_type == "Gemm" and reader.inputs[1] is weight and _is_plain(reader):
            yield reader
        if reader.op_type == "Transpose" and list(reader.attributes.get_ints("perm", ())) == [1, 0]:
            transposed = reader.outputs[0]
            for product in transposed.consumers():
                if (
                    product.op_type == "MatMul"
                    and product.inputs[1] is transposed
                    and product.inputs[0] is not transposed
                ):
                    yield product


def _is_plain(gemm: ir.Node) -> bool:
    """Whether it computes ``x @ weight.T + bias``."""
    attributes = gemm.attributes
    factors = (attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0))
    return attributes.get_int("transB", 0) == 1 and attributes.get_int("transA", 0) == 0 and factors == (1.0, 1.0)
