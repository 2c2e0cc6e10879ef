"""What becomes of the result of a layer."""

from __future__ import annotations

import onnx_ir as ir

from eqnet.export.onnx.registry import Operators


def is_quantized(value: ir.Value) -> bool:
    """Whether ``value`` is quantized, in one way, and read by nothing else."""
    readers = {id(use.node) for use in value.uses()}
    quantizes = all(use.node.op_type == "QuantizeLinear" and use.idx == 0 for use in value.uses())
    return quantizes and len(readers) == 1 and not value.is_graph_output()


def only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node that is the only one to read ``value``, if it is of that type."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].idx != 0:
        return None
    node = uses[0].node
    return node if node.op_type == op_type and node.domain == "" else None


def erase(graph: ir.Graph, node: ir.Node) -> None:
    """Removes ``node``, whose results are not used, and all before it that has no other use."""
    inputs = list(dict.fromkeys(value for value in node.inputs if value is not None))
    graph.remove(node, safe=True)
    for value in inputs:
        if value.uses() or value.is_graph_output():
            continue
        before = value.producer()
        if value.is_initializer() and value.name is not None:
            del graph.initializers[value.name]
        elif before is not None and not any(other.uses() for other in before.outputs):
            erase(graph, before)


def insert(graph: ir.Graph, op: Operators, before: ir.Node) -> None:
    """Adds the operators and initializers that ``op`` made."""
    for initializer in op.initializers:
        graph.register_initializer(initializer)
    graph.insert_before(before, op.nodes)


def replace(graph: ir.Graph, node: ir.Node, result: ir.Value) -> None:
    """Makes ``result`` that of ``node``, which is removed with all that is not used any more."""
    old = node.outputs[0]
    result.shape, result.type = old.shape, old.type
    if old.is_graph_output():
        result.name, old.name = old.name, None
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    erase(graph, node)
