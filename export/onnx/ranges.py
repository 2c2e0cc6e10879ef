"""The range of each channel of values in a graph, on calibration inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from torch import Tensor

from eqnet.errors import InputError
from eqnet.export.onnx.registry import Operators
from eqnet.tracing import ExampleInputs

Array = np.ndarray[Any, Any]

_NUMBERS = 1 << 16
"""Of an input that are run at once, but one sample at least: enough to make overheads small, and the memory, too."""


@dataclass(frozen=True, eq=False)
class Range:
    """The least and the largest value of each channel; 0 is between them.

    Attributes:
        low: float32 [channels], at most 0.
        high: float32 [channels], at least 0.
    """

    low: Array
    high: Array

    def whole(self) -> tuple[float, float]:
        """Of all channels."""
        return float(self.low.min()), float(self.high.max())


def channel_ranges(
    model: ir.Model, values: Sequence[ir.Value], calibration: Sequence[ExampleInputs]
) -> dict[ir.Value, Range]:
    """Runs ``model`` on ``calibration``.

    Args:
        model: in standard operators; afterwards it is as it was.
        values: in its graph, of two dimensions or more; the second one is that of the channels.
        calibration: batches of its inputs.
    """
    if not values:
        return {}
    with _observed(model, values) as names:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = _session(ir.to_proto(model).SerializeToString(), options)
    extremes = [np.zeros(0)] * len(names)
    inputs = [value.name for value in model.graph.inputs]
    for feeds in _feeds(inputs, calibration):
        for i, seen in enumerate(session.run(names, feeds)):
            best = np.minimum if i % 2 == 0 else np.maximum
            extremes[i] = best(extremes[i], seen) if extremes[i].size else best(seen, 0)
    return {value: Range(low, high) for value, low, high in zip(values, extremes[::2], extremes[1::2], strict=True)}


def _session(model: bytes, options: Any) -> Any:
    try:
        return ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    except Exception as e:  # those of onnxruntime have no class of their own
        raise InputError(
            f"the installed onnxruntime {ort.__version__} does not run the model, which has to be for the ranges of "
            f"its results ({str(e).strip().splitlines()[0]}); give an older opset, ask for exact results, or: "
            "pip install -U onnxruntime"
        ) from e


@contextmanager
def _observed(model: ir.Model, values: Sequence[ir.Value]) -> Iterator[list[str]]:
    """Has the graph give the least and the largest value of each channel; yields the names of these outputs."""
    graph, op = model.graph, Operators()
    before = list(graph.outputs)
    results: list[ir.Value] = []
    for value in values:
        assert value.shape is not None
        axes = op.initializer(ir.tensor(np.array([0, *range(2, len(value.shape))])), f"//axes{len(results)}")
        for reduce in (op.ReduceMin, op.ReduceMax):
            result = reduce(value, axes, keepdims=0)
            result.name = f"//extreme{len(results)}"
            result.dtype, result.shape = ir.DataType.FLOAT, ir.Shape([value.shape[1]])
            results.append(result)
    for initializer in op.initializers:
        graph.register_initializer(initializer)
    graph.extend(op.nodes)
    graph.outputs[:] = results
    try:
        yield [str(result.name) for result in results]
    finally:
        graph.outputs[:] = before
        graph.remove(reversed(op.nodes), safe=True)
        for initializer in op.initializers:
            del graph.initializers[str(initializer.name)]


def _feeds(names: Sequence[str | None], calibration: Sequence[ExampleInputs]) -> Iterator[Mapping[str, Array]]:
    """The inputs of the graph by name, a few samples at a time."""
    for batch in calibration:
        values: Sequence[Any]
        if isinstance(batch, Mapping):
            values = [batch[str(name)] for name in names]
        else:
            values = [batch] if isinstance(batch, Tensor) else list(batch)
        arrays = [value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value) for value in values]
        count = max(1, _NUMBERS // max(1, arrays[0][:1].size))
        for start in range(0, len(arrays[0]), count):
            yield {str(name): array[start : start + count] for name, array in zip(names, arrays, strict=True)}
