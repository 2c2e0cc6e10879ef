"""One network of a run, with the interface of an artifact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from eqnet.formats import LayerFormat
from eqnet.packed.layers import PACKED
from eqnet.packed.record import LayerRecord, Record, type_name
from eqnet.runtime.engines.hooks import results
from eqnet.runtime.outputs import first_output
from eqnet.runtime.runner import InputSpec, Runner
from eqnet.supernet import Supernet
from eqnet.tracing import ExampleInputs


class SupernetRunner(Runner):
    """A subnet in fake quantization, as a search measures it.

    The result of a layer that batch norm will be folded into is that of its batch norm.

    Args:
        path: of the run.
        supernet: calibrated, and trained if it is to be.
        subnet: one of its.
        inputs: batches on which batch norm is re-estimated, as before packing.
        example: one batch of its inputs.
    """

    kind = "run"

    def __init__(
        self,
        path: Path,
        supernet: Supernet,
        subnet: Mapping[str, LayerFormat],
        inputs: Iterable[ExampleInputs],
        example: Tensor,
    ) -> None:
        super().__init__(path, _record(supernet, subnet), (InputSpec("x", (None, *example.shape[1:]), example.dtype),))
        self._supernet, self._subnet = supernet, subnet
        with supernet.running(subnet):
            supernet.reestimate_batch_norm(inputs)
        supernet.eval()
        norms = {layer: norm for norm, layer in supernet.folded.items()}
        self._places = {name: supernet.model.get_submodule(norms.get(name, name)) for name in supernet.elastic}

    def __call__(self, *xs: Tensor) -> Tensor:
        with self._supernet.running(self._subnet), torch.inference_mode():
            return first_output(self._supernet(*xs))

    def layers(self, *xs: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        return results(self._places, lambda: self(*xs), given or {})

    def __str__(self) -> str:
        return "the supernet, in fake quantization"


def _record(supernet: Supernet, subnet: Mapping[str, LayerFormat]) -> Record:
    layers = {}
    for layer in supernet.space.layers:
        module, fmt = supernet.elastic[layer.name], subnet[layer.name]
        kind = PACKED[type(module)].kind.__name__
        layers[layer.name] = LayerRecord(
            kind,
            layer.stored_format(fmt.weight),
            fmt.activation,
            tuple(module.weight.shape),
            type_name(module.weight.dtype),
        )
    return Record(layers, dict(supernet.folded))
