"""ONNX Runtime, with its integer kernels or with weights alone quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from eqnet.bench.timing import Call
from eqnet.formats import MAX_BITS, MIN_BITS, Format, LayerFormat
from eqnet.packed.layers import PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.packed.record import Record
from eqnet.search.latency.engine import Timed
from eqnet.search.latency.exported import FileEngine, Write
from eqnet.space import Layer

_SETTINGS = {"session.force_spinning_stop": "1"}
"""Threads of a session that has its result wait for the next one in a loop, and disturb all sessions but their own."""


def onnxruntime(target: str, write: Write) -> Timed:
    """The row of a target that ONNX Runtime runs.

    Args:
        target: its name.
        write: writes an ONNX model.
    """
    return Timed(
        target,
        lambda some, example, space, threads: _Engine("ONNX Runtime", ".onnx", write, _opened, stand_in, threads),
        ("onnxruntime", "eqnet"),
        extra="onnx",
    )


def stand_in(layer: Layer, fmt: LayerFormat) -> LayerFormat:
    """See ``Kernels``.

    On integers, weights of all widths are bytes once the file is loaded, signed or with zero points; channels that all
    have the same one, as they do in a format of the whole tensor, may run a faster kernel. Inputs are bytes, too. Those
    of fewer than 8 bits are clipped, whatever their width; an activation before them takes time unless they are
    asymmetric, and have it in their range. What is dequantized at every run depends on all of its format.
    """
    weight, activation = layer.stored_format(fmt.weight), fmt.activation
    if activation is None:
        return LayerFormat(weight)
    if not weight.group_size:
        shared = weight if weight.symmetric else fmt.weight
        weight = Format(MAX_BITS, weight.symmetric, shared.granularity)
    bits = MAX_BITS if activation.bits == MAX_BITS else MIN_BITS
    return LayerFormat(weight, Format(bits, activation.symmetric))


@dataclass(frozen=True)
class _Engine(FileEngine):
    """Writes all formats of a layer at once, as most of the time goes into what they share."""

    def layers(self, formats: Sequence[PackedLayer], x: Tensor) -> list[Call]:
        """See ``Engine``."""
        import onnx
        from onnx.utils import Extractor

        beside = _SideBySide(formats, nn.ReLU() if (x >= 0).all() else nn.Identity())
        with self.written(PackedModel(beside, Record({})), x) as path:
            model = onnx.load(path)
            (given,), results = model.graph.input, [value.name for value in model.graph.output]
            parts = [Extractor(model).extract_model([given.name], [result]) for result in results]
            return [_called(path, part.SerializeToString(), x, self.threads) for part in parts]


class _SideBySide(nn.Module):
    """Layers that all read the same, after an activation."""

    def __init__(self, layers: Sequence[PackedLayer], activation: nn.Module) -> None:
        super().__init__()
        self.activation, self.layers = activation, nn.ModuleList(layers)
        for name, layer in self.named_modules():
            if isinstance(layer, PackedLayer):
                layer.path = name

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(self.activation(x)) for layer in self.layers)


def _opened(path: Path, x: Tensor, threads: int) -> Call:
    return _called(path, str(path), x, threads)


def _called(path: Path, model: str | bytes, x: Tensor, threads: int) -> Call:
    """A call of a session like that of ``eqnet.runtime.open``, without what lies around it."""
    from eqnet.runtime.engines.onnx import new_session

    session = new_session(path, model, threads, settings=_SETTINGS)
    feeds = {session.get_inputs()[0].name: x.contiguous().numpy()}
    outputs = [session.get_outputs()[0].name]
    return lambda: session.run(outputs, feeds)
