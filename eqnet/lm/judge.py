"""What a subnet of a language model is worth, measured: how far its next tokens are from those of the float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.formats import Format, LayerFormat
from eqnet.lm.bank import Bank, Shared
from eqnet.search.store import Measurement

ROWS = 256
"""Places whose distributions over the vocabulary are compared at a time."""


class Workbench:
    """One model in memory, whose weights are those of any subnet, or the ones that it was given.

    Args:
        model: of transformers, with weights; it is changed.
        weights: every weight that has formats.
        bank: has the codes.
        original: gives the weight of a layer in floating point, float32 [rows, cols].
    """

    def __init__(self, model: Any, weights: Sequence[Shared], bank: Bank, original: Callable[[str], Tensor]) -> None:
        self._model, self._weights, self._bank, self._original = model, weights, bank, original
        self._holds: dict[str, Format | None] = {layers.name: None for layers in weights}

    def hold(self, subnet: Mapping[str, LayerFormat] | None) -> None:
        """Makes the model that of ``subnet``, or the given one if None; what it holds already stays."""
        for layers in self._weights:
            fmt = subnet[layers.name].weight if subnet is not None else None
            if self._holds[layers.name] == fmt:
                continue
            exact = self._original(layers.name) if fmt is None else self._bank.entry(layers, fmt).weight.dequantize()
            self._model.get_submodule(layers.name).weight.data.copy_(exact)
            self._holds[layers.name] = fmt

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """Of what it holds, float32 [T, vocabulary] for ids [T]."""
        found: Tensor = self._model(input_ids=ids[None], use_cache=False).logits[0]
        return found.float()


class LanguageJudge:
    """Measures subnets on windows of text.

    Args:
        bench: has the model.
        windows: int64 [N, T].
    """

    def __init__(self, bench: Workbench, windows: Tensor) -> None:
        self._bench, self._windows = bench, windows

    def measure(self, subnet: Mapping[str, LayerFormat] | None, first: int | None = None) -> Measurement:
        """Divergence, loss (the logarithm of the perplexity) and share of next tokens that are the likeliest one.

        Args:
            subnet: the model in floating point if None.
            first: windows to measure on; all if None.

        Raises:
            ModelError: the logits hold inf or NaN.
        """
        windows, reference = self._windows[:first], self._reference[:first]
        self._bench.hold(subnet)
        totals = torch.zeros(3, dtype=torch.float64)
        for ids, expected in zip(windows, reference, strict=True):
            totals += _compared(self._bench.logits(ids), expected, ids)
        places = windows.numel()
        predicted = places - len(windows)  # nothing tells what comes after the last token of a window
        divergence, loss, right = (totals / torch.tensor([places, predicted, predicted])).tolist()
        if not abs(divergence) + abs(loss) < float("inf"):
            raise ModelError("a subnet's logits hold inf or NaN; check the model's weights")
        return Measurement(divergence=max(divergence, 0.0), loss=loss, accuracy=right)

    @cached_property
    def _reference(self) -> list[Tensor]:
        """Logarithms of the probabilities that the model in floating point gives, [T, vocabulary] of each window."""
        self._bench.hold(None)
        return [self._bench.logits(ids).log_softmax(1) for ids in self._windows]


def _compared(logits: Tensor, reference: Tensor, ids: Tensor) -> Tensor:
    """Sums over the places of one window: divergences, losses, next tokens found; float64 [3]."""
    total = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(ids), ROWS):
        found, expected = (part[start : start + ROWS] for part in (logits, reference))
        found = found.log_softmax(1)
        following = ids[start + 1 : start + ROWS + 1]
        total[0] += (expected.exp() * (expected - found)).sum(1).double().sum()
        predicted = found[: len(following)]
        total[1] -= predicted.gather(1, following[:, None]).double().sum()
        total[2] += (predicted.argmax(1) == following).sum()
    return total
