"""Results of layers, what becomes of them, and nodes in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY
from eqnet.export.onnx.registry import Operators
from eqnet.export.onnx.rules.rule import number, scalar
from eqnet.export.onnx.weights import is_grouped
from eqnet.packed.layers import PackedConv, PackedLayer


@dataclass(frozen=True)
class Result:
    """A result in floating point, with the activation that clips it.

    Attributes:
        node: the convolution, or a sum.
        activation: ReLU or a Clip from 0 that is all that reads the result; None if there is no such.
    """

    node: ir.Node
    activation: ir.Node | None

    @classmethod
    def of(cls, node: ir.Node) -> Result:
        """That of ``node``."""
        activation = only_reader(node.outputs[0], "Relu")
        if activation is None:
            clip = only_reader(node.outputs[0], "Clip")
            activation = clip if clip is not None and scalar(clip.inputs[1]) == 0 else None
        return cls(node, activation)

    @property
    def value(self) -> ir.Value:
        """The result after the activation."""
        return (self.activation or self.node).outputs[0]

    def is_taken_as_codes(self) -> bool:
        """Whether there is an integer kernel of what reads it, a sum or a mean, and it is no output of the graph."""
        readers = [use.node for use in self.value.uses()]
        means = [node for node in readers if is_mean_of_positions(node) and is_quantized(node.outputs[0])]
        return not self.value.is_graph_output() and (bool(means) or any(map(_is_sum, readers)))


def results(graph: ir.Graph, layers: Mapping[str, PackedLayer]) -> list[Result]:
    """Of convolutions that can run on integers, and whose result is not quantized."""
    nodes = [node for node in graph if node.op_type == "Conv" and LAYER_KEY in node.meta]
    return [
        Result.of(node)
        for node in nodes
        if not is_quantized(node.outputs[0]) and _can_be_integer(layers[node.meta[LAYER_KEY]])
    ]


def sums(graph: ir.Graph, terms: Iterable[Result]) -> list[Result]:
    """Sums of nothing but ``terms`` and such sums."""
    values = {result.value for result in terms}
    found = []
    for node in graph:
        if _is_sum(node) and values.issuperset(node.inputs):
            result = Result.of(node)
            if not result.value.is_graph_output():
                values.add(result.value)
                found.append(result)
    return found


def _can_be_integer(layer: PackedLayer) -> bool:
    return isinstance(layer, PackedConv) and layer.input_format is not None and not is_grouped(layer)


def _is_sum(node: ir.Node) -> bool:
    return node.op_type == "Add" and all(value is not None and value.const_value is None for value in node.inputs)


def is_mean_of_positions(node: ir.Node) -> bool:
    """Whether ``node`` is a mean over all dimensions of its input but the first two."""
    shape, axes = node.inputs[0].shape if node.inputs[0] is not None else None, node.inputs[1:]
    over = number(axes[0]) if axes else None
    if node.op_type != "ReduceMean" or shape is None or len(shape) < 3 or over is None:
        return False
    return sorted(int(axis) % len(shape) for axis in over) == list(range(2, len(shape)))


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
