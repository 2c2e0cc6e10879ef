"""Results of the layers inside an ONNX model, and other ones in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqnet.errors import MissingPackageError, RunError
from eqnet.runtime.engines.onnx import new_session, run
from eqnet.runtime.runner import ResultCodes

_UINT8, _INT8 = 2, 3
_RANGES = {_UINT8: (0, 255), _INT8: (-128, 127)}
"""The least and the largest code, by the number of its type in ONNX."""

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
        values = {**_activated(self._model.graph, set(layers) - set(values)), **values}
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

    def codes(self) -> dict[str, ResultCodes]:
        """Of those results that are dequantized codes of 8 bits."""
        made = {name: node for node in self._model.graph.node for name in node.output}
        constants = {tensor.name: tensor for tensor in self._model.graph.initializer}
        found = {}
        for layer, value in self._values.items():
            node = made[value]
            if node.op_type != "DequantizeLinear" or not {*node.input[1:]} <= set(constants):
                continue
            scale, *zero = (self._constant(constants[name]) for name in node.input[1:])
            low, high = _RANGES.get(constants[node.input[2]].data_type if zero else _UINT8, (0, 0))
            if high:
                zero_point = zero[0] if zero else torch.zeros(1)
                found[layer] = ResultCodes((low - zero_point) * scale, (high - zero_point) * scale, scale)
        return found

    def _constant(self, tensor: Any) -> Tensor:
        """Float32, one-dimensional."""
        from onnx import numpy_helper

        return torch.from_numpy(numpy_helper.to_array(tensor, str(self._path.parent)).astype("float32")).reshape(-1)

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


def _activated(graph: Any, layers: set[str]) -> dict[str, str]:
    """Dequantized results of those layers whose activation is in the range of their codes."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for node in (node for node in graph.node if node.name in layers):
        quantize = readers.get(node.output[0], [])
        dequantize = readers.get(quantize[0].output[0], []) if quantize else []
        if [[n.op_type for n in after] for after in (quantize, dequantize)] == [
            ["QuantizeLinear"],
            ["DequantizeLinear"],
        ]:
            found[node.name] = dequantize[0].output[0]
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
