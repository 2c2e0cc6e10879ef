"""Results of the layers inside an ONNX model, and other ones in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from eqnet.errors import MissingPackageError, RunError
from eqnet.runtime.engines.onnx import new_session, run

GIVEN = "/given"
"""What is added to the name of a value whose readers read an input of the graph in its place."""


class LayerSessions:
    """Copies of a model, in memory, whose layers' results are outputs; they run node by node, as the graph is written.

    Args:
        path: of the model.
        values: name of the graph value that is a layer's result, by name of the layer.
        layers: names of all layers; nodes that compute their products have them.
        threads: that sessions may use.

    Raises:
        MissingPackageError: onnx is not installed.
        RunError: the graph has no such value.
    """

    def __init__(self, path: Path, values: Mapping[str, str], layers: Iterable[str], threads: int) -> None:
        try:
            import onnx
        except ImportError as e:
            raise MissingPackageError(f"{path}: to see its layers takes onnx ({e}); pip install 'eqnet[onnx]'") from e
        self._path, self._threads = path, threads
        self._model = onnx.load(str(path), load_external_data=False)
        self._layers = frozenset(layers)
        made = {name: i for i, node in enumerate(self._model.graph.node) for name in node.output}
        for layer, value in values.items():
            if value not in made:
                raise RunError(f"{path}: layer '{layer}': there is no value '{value}' in the graph; export it again")
        self._values = dict(sorted(values.items(), key=lambda item: made[item[1]]))
        self._sessions: dict[frozenset[str], Any] = {}

    def run(self, feeds: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Tensor]:
        """Results by layer, in the order of the graph.

        Args:
            feeds: arrays by input of the model.
            given: arrays that readers of layers' results read instead, by layer; unknown layers are left out.
        """
        replaced = {layer: array for layer, array in given.items() if layer in self._values}
        session = self._session(frozenset(replaced))
        inputs = {value.name for value in session.get_inputs()}
        more = {self._values[layer] + GIVEN: array for layer, array in replaced.items()}
        kept = {name: array for name, array in {**feeds, **more}.items() if name in inputs}
        results = run(self._path, session, tuple(self._values.values()), kept)
        return dict(zip(self._values, results, strict=True))

    def approximate(self) -> frozenset[str]:
        """Layers whose results depend on dequantized codes that are no input of a layer's product.

        Only what lies between them and the results of the layers before them counts.
        """
        graph = self._model.graph
        made = {name: node for node in graph.node for name in node.output}
        readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        fixed = _constants(graph)
        rounded = {
            node.output[0]
            for node in graph.node
            if node.op_type == "DequantizeLinear"
            and node.input[0] not in fixed
            and not all(reader.name in self._layers for reader in readers.get(node.output[0], []))
        }
        ends = set(self._values.values())
        return frozenset(
            layer for layer, value in self._values.items() if rounded & _between(value, made, ends - {value})
        )

    def _session(self, replaced: frozenset[str]) -> Any:
        if replaced not in self._sessions:
            cut = {self._values[layer] for layer in replaced}
            data = self._exposed(cut).SerializeToString()
            self._sessions[replaced] = new_session(
                self._path, data, self._threads, optimized=False, folder=self._path.parent
            )
        return self._sessions[replaced]

    def _exposed(self, cut: set[str]) -> Any:
        """A copy of the model whose layers' results are outputs; readers of those in ``cut`` read inputs instead."""
        from onnx import ModelProto, ValueInfoProto

        model = ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        read = set(_redirect(graph, cut))
        types = self._types(read)
        present = {output.name for output in graph.output}
        graph.output.extend(ValueInfoProto(name=value) for value in self._values.values() if value not in present)
        graph.input.extend(_of_any_shape(value + GIVEN, types[value]) for value in sorted(read))
        return model

    def _types(self, values: set[str]) -> dict[str, int]:
        """Numbers of the types of values, as a session without anything replaced tells them."""
        if not values:
            return {}
        outputs = {value.name: value.type for value in self._session(frozenset()).get_outputs()}
        from onnx import TensorProto

        names = {"tensor(float)": TensorProto.FLOAT, "tensor(double)": TensorProto.DOUBLE}
        names |= {"tensor(float16)": TensorProto.FLOAT16}
        return {value: names[outputs[value]] for value in values}


def _constants(graph: Any) -> set[str]:
    """Names of the values that depend on no input."""
    known = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:  # in the order in which they run
        if set(node.input) <= known:
            known.update(node.output)
    return known


def _between(value: str, made: Mapping[str, Any], ends: set[str]) -> set[str]:
    """``value`` and all that it is computed from, as far as ``ends``."""
    found, left = set(), [value]
    while left:
        name = left.pop()
        if name in made and name not in found and name not in ends:
            found.add(name)
            left += made[name].input
    return found


def _redirect(graph: Any, cut: set[str]) -> Iterator[str]:
    """Makes all nodes, those of inner graphs too, read ``value/given`` for each value in ``cut``; tells which do."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in cut:
                node.input[i] = name + GIVEN
                yield name
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _redirect(inner, cut)


def _of_any_shape(name: str, kind: int) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, None)
