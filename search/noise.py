"""How much each format distorts each layer's weight and input: known before any subnet is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.quantizer import Quantizer
from eqnet.ranges import Histogram
from eqnet.supernet import Supernet
from eqnet.tracing import ExampleInputs, call, evaluating

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Noise:
    """Relative squared error of quantizing, for each tied set and each of its choices.

    Attributes:
        weight, activation: one float64 [choices] array for each tied set: the mean over its layers of
            ``E|x − x̂|² / E|x|²``; 0 where nothing is quantized.
        alike: whether the values are expected divergences instead, in nats, so that those of different sets compare.
    """

    weight: tuple[Array, ...]
    activation: tuple[Array, ...]
    alike: bool = False


def quantization_noise(supernet: Supernet, inputs: Iterable[ExampleInputs]) -> Noise:
    """Runs the supernet in floating point on ``inputs`` and quantizes what each layer sees, in every format.

    Batch norm is re-estimated first, for it may still have the statistics of the subnet that was measured last.
    """
    inputs = list(inputs)
    layers = supernet.elastic
    with supernet.running(None):
        supernet.reestimate_batch_norm(inputs)
    for layer in layers.values():
        layer.observer = Histogram() if layer.input_quantizer is not None else None
    try:
        with supernet.running(None), evaluating(supernet), torch.no_grad():
            for batch in inputs:
                call(supernet.model, batch)
        weights, activations = [], []
        for tied in supernet.space.sets:
            weight_errors: dict[Format, list[float]] = {}
            input_errors: dict[Format, list[float]] = {}
            for member in tied.layers:
                layer = layers[member.name]
                matrix = layer.matrix().detach()
                for fmt in dict.fromkeys(c.weight for c in tied.choices):
                    weight_errors.setdefault(fmt, []).append(_error(layer.weight_quantizer, fmt, matrix))
                if layer.observer is not None and layer.input_quantizer is not None:
                    seen = layer.observer
                    for fmt in dict.fromkeys(c.activation for c in tied.choices if c.activation is not None):
                        device = layer.weight.device
                        values, counts = seen.centers.to(device), seen.counts.to(device)
                        input_errors.setdefault(fmt, []).append(_error(layer.input_quantizer, fmt, values, counts))
            weights.append(np.array([np.mean(weight_errors[c.weight]) for c in tied.choices]))
            inputs_of = [input_errors.get(c.activation, [0.0]) if c.activation else [0.0] for c in tied.choices]
            activations.append(np.array([np.mean(errors) for errors in inputs_of]))
    finally:
        for layer in layers.values():
            layer.observer = None
    return Noise(tuple(weights), tuple(activations))


def _error(quantizer: Quantizer, fmt: Format, x: Tensor, counts: Tensor | None = None) -> float:
    with torch.no_grad():
        square = (quantizer(x, fmt) - x) ** 2
        power = x**2
        if counts is not None:
            square, power = square * counts, power * counts
        total = power.sum().item()
        return square.sum().item() / total if total > 0 else 0.0
