"""``qat``: all layers are trained together, on their codes, to tell the next token as the model does in floating point.

Quantization-aware training with the model itself as teacher (Liu et al., LLM-QAT, Findings of ACL 2024): the loss is
KL(float ‖ quantized) of the next token, which is what a search minimises as well, and no labels come into it, so that
the model is not taught the text. It takes the whole model and its gradients in memory, unlike ``distill``, which goes
from block to block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from eqnet.lm.rounded import Rates, RoundedWeight
from eqnet.lm.source import Source
from eqnet.losses import divergence
from eqnet.packed.tensor import PackedTensor

Report = Callable[[str, int, int], None]

_JUDGES = 8
"""One window in so many, and not many more than so many, is not trained on, but tells whether that was any good."""

NOTHING_GAINED = "Nothing gained, codes stay"
"""The stage that is told when a training was of no use."""

_RATES = Rates(scales=3e-4, places=4e-3, warmup=8)


@dataclass(frozen=True)
class QuantizationAwareTraining:
    """How a model is trained.

    Attributes:
        steps: of the optimizer.
        batch: windows of a step.
        rates: of learning.
        seed: of the order of the windows.
    """

    steps: int = 320
    batch: int = 1
    rates: Rates = _RATES
    seed: int = 0

    @property
    def windows(self) -> int:
        """Of text that are read, each once if there are as many."""
        return self.steps * self.batch

    def train(
        self, source: Source, packed: Mapping[str, PackedTensor], ids: Tensor, report: Report | None = None
    ) -> dict[str, PackedTensor]:
        """Better codes, or ``packed`` if none were found.

        Args:
            source: of the model.
            packed: by the path of the layer; those that share their weight have the same one.
            ids: text, int64 [N, T]; ``windows`` of them at best.
            report: told (stage, done, total).
        """
        model = source.load()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        training = _Training(model, source, packed)
        trained_on, judged_on = _split(ids)
        before = training.divergence(judged_on)
        training.run(self, trained_on, report)
        if training.divergence(judged_on) < before:
            return training.packed()
        if report is not None:
            report(NOTHING_GAINED, self.steps, self.steps)
        return dict(packed)


class _Training:
    """A model, and its weights on their codes."""

    def __init__(self, model: Any, source: Source, packed: Mapping[str, PackedTensor]) -> None:
        self._model = model
        self._first = {path: source.first_of(path) for path in packed}
        self._weights = {
            path: RoundedWeight(source.tensor(f"{path}.weight"), packed[path])
            for path in dict.fromkeys(self._first.values())
        }
        # What is looked up in a table goes on as it is, from block to block; products round it for themselves.
        tables = {self._first[path] for path in packed if isinstance(model.get_submodule(path), nn.Embedding)}
        narrow = torch.bfloat16 if _multiplies_bfloat16() else torch.float32
        self._types = {path: torch.float32 if path in tables else narrow for path in self._weights}

    def run(self, how: QuantizationAwareTraining, ids: Tensor, report: Report | None) -> None:
        """Takes the steps, each on the next windows of all, which are shuffled whenever they are used up."""
        generator = torch.Generator().manual_seed(how.seed)
        order: list[int] = []

        def loss(step: int) -> Tensor:
            if report is not None:
                report("Training", step, how.steps)
            while len(order) < how.batch:
                order.extend(torch.randperm(len(ids), generator=generator).tolist())
            windows = ids[order[: how.batch]]
            del order[: how.batch]
            return self._loss(windows)

        how.rates.train(self._weights.values(), how.steps, loss)
        if report is not None:
            report("Training", how.steps, how.steps)

    @torch.no_grad()
    def divergence(self, ids: Tensor) -> float:
        """KL(float ‖ quantized) in nats a token, the mean over all windows."""
        return sum(float(self._loss(window[None])) for window in ids) / len(ids)

    def packed(self) -> dict[str, PackedTensor]:
        """What is stored of each layer; those that share their weight share it again."""
        found = {path: weight.packed() for path, weight in self._weights.items()}
        return {path: found[first] for path, first in self._first.items()}

    def _loss(self, ids: Tensor) -> Tensor:
        with _precision():
            with torch.no_grad():
                wanted = self._model(input_ids=ids, use_cache=False).logits
            found = functional_call(self._model, self._rounded(), (), {"input_ids": ids, "use_cache": False}).logits
        return divergence(found, wanted)

    def _rounded(self) -> dict[str, Tensor]:
        """Weights by the names that the model has them under."""
        found = {path: weight(self._types[path]) for path, weight in self._weights.items()}
        return {f"{path}.weight": found[first] for path, first in self._first.items()}


def _split(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Windows to train on, and windows to judge on; the same single one for both if there is no other."""
    step = max(_JUDGES, len(ids) // _JUDGES)
    judges = torch.arange(len(ids)) % step == step - 1
    if len(ids) < _JUDGES:
        judges[-1] = True
    return (ids[~judges], ids[judges]) if len(ids) > 1 else (ids, ids)


def _multiplies_bfloat16() -> bool:
    """Whether this processor does so faster than it multiplies float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _precision() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if _multiplies_bfloat16() else nullcontext()
