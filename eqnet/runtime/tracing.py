"""From a model to the list of its operations, with the shape of every result."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from eqnet.errors import ModelError
from eqnet.packed.layers import PackedLayer
from eqnet.runtime.unsupported import UnsupportedError

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_NOTHING: set[Any] = {nn.Identity, *DROPOUTS, "dropout", "contiguous", "detach", "positive", "pos"}
"""What evaluation leaves as it is."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, PackedLayer) or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the graph and keeps the shapes of all tensors."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else None
        return result


def trace(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """The operations of ``model``, without those that do nothing; each result's shape is its ``meta["shape"]``.

    Raises:
        UnsupportedError: its operations depend on the values that it is given.
        ModelError: it does not run on the example.
    """
    if isinstance(model, PackedLayer):
        model = nn.Sequential(model)  # what is traced is never a layer itself
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as e:  # torch.fx raises what the traced code raises
        raise UnsupportedError(
            f"{type(model).__name__} cannot be traced, as what it does depends on its input: {type(e).__name__}: {e}"
        ) from e
    try:
        with torch.no_grad():
            _Shapes(traced).run(example)
    except Exception as e:
        raise ModelError(f"the model does not run on the example inputs: {type(e).__name__}: {e}") from e
    graph = traced.graph
    for node in list(graph.nodes):
        if key(traced, node) in _NOTHING:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            node.replace_all_uses_with(source)
            graph.erase_node(node)
    for node in graph.nodes:
        if _changes_input(traced, node):
            _redirect_later_uses(graph, node)
    graph.eliminate_dead_code()
    return traced


def key(traced: fx.GraphModule, node: fx.Node) -> Any:
    """What a node does: the type of its module, or the name of its function or method."""
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target)))
    if node.op == "call_method":
        return str(node.target)
    if node.op == "call_function":
        target: Any = node.target
        home = str(getattr(target, "__module__", None) or "torch")  # torch's own functions have no module
        known = home.split(".")[0] in ("torch", "_operator", "operator", "math") or target is getattr
        return target.__name__ if known else target
    return node.op


def _changes_input(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(traced.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_function" and node.target in (operator.iadd,):
        return True
    if node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__"):
        return True
    return bool(node.kwargs.get("inplace")) or str(key(traced, node)) in ("relu_", "hardtanh_", "clamp_")


def _redirect_later_uses(graph: fx.Graph, node: fx.Node) -> None:
    """Whoever reads the input of ``node`` after it has been changed reads the result of ``node``."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    order = {n: i for i, n in enumerate(graph.nodes)}
    source.replace_all_uses_with(node, lambda user: order[user] > order[node])
