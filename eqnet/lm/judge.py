"""What a subnet of a language model is worth, measured: how far its next tokens are from those of the float model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.formats import Format, LayerFormat
from eqnet.lm.bank import Bank, Shared
from eqnet.lm.kept import KeptTensors
from eqnet.lm.workers import on_threads
from eqnet.search.store import Measurement

ROWS = 32
"""Places whose distributions over the vocabulary are compared at a time; so few fit into caches."""


class Workbench:
    """One model in memory, whose weights are those of any subnet, or the ones that it was given.

    Args:
        load: gives a model of transformers; it is changed. What its weights with formats hold does not matter.
        weights: every weight that has formats.
        bank: has the codes.
        original: gives the weight of a layer in floating point, float32 [rows, cols].
    """

    def __init__(
        self, load: Callable[[], Any], weights: Sequence[Shared], bank: Bank, original: Callable[[str], Tensor]
    ) -> None:
        self._load, self._weights, self._bank, self._original = load, weights, bank, original
        self._holds: dict[str, Format | None] = {}

    def hold(self, subnet: Mapping[str, LayerFormat] | None) -> None:
        """Makes the model that of ``subnet``, or the given one if None; what it holds already stays."""
        self._put({layers: None if subnet is None else subnet[layers.name].weight for layers in self._weights})

    def hold_head(self) -> None:
        """Gives the output head, and whatever shares its weight, that of the given model."""
        head = self._model.get_output_embeddings()
        self._put(
            {
                layers: None
                for layers in self._weights
                if any(self._model.get_submodule(path) is head for path in layers.paths)
            }
        )

    def _put(self, formats: Mapping[Shared, Format | None]) -> None:
        model = self._model

        def put(layers: Shared) -> None:
            fmt = formats[layers]
            weight = model.get_submodule(layers.name).weight.data
            if fmt is None:
                weight.copy_(self._original(layers.name))
            else:
                self._bank.entry(layers, fmt).weight.dequantize(into=weight)

        changed = [w for w, fmt in formats.items() if w.name not in self._holds or self._holds[w.name] != fmt]
        for layers in changed:
            self._holds.pop(layers.name, None)  # whatever is left of it if this fails
        on_threads(put, changed)
        self._holds |= {layers.name: formats[layers] for layers in changed}

    @cached_property
    def _model(self) -> Any:
        return self._load()

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """Of what it holds, float32 [T, vocabulary] for ids [T]."""
        found: Tensor = self._model(input_ids=ids[None], use_cache=False).logits[0]
        return found.float()

    @torch.inference_mode()
    def head(self, hidden: Tensor) -> Tensor:
        """What the output head makes of hidden states [T, width], float32 [T, vocabulary]."""
        found: Tensor = self._model.get_output_embeddings()(hidden[None])[0]
        return found.float()

    def hidden(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What goes into the output head, [T, width] for ids [T], and ``logits``."""
        seen: list[Tensor] = []
        hook = self._model.get_output_embeddings().register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
        try:
            logits = self.logits(ids)
        finally:
            hook.remove()
        return seen[0], logits


class LanguageJudge:
    """Measures subnets on windows of text.

    Args:
        bench: has the model.
        windows: int64 [N, T].
        compared: whether divergences are measured, which takes the model in floating point to run once; else they are
            infinite.
        kept: keeps what goes into the output head of the model in floating point, ``hidden``, float32 [N, T, width];
            without, or where logits are not what the head makes of it and nothing else, the whole model runs.
    """

    def __init__(
        self, bench: Workbench, windows: Tensor, *, compared: bool = True, kept: KeptTensors | None = None
    ) -> None:
        self._bench, self._windows, self._compares, self._kept = bench, windows, compared, kept
        self._ahead: tuple[Future[list[Tensor]], int] | None = None
        self._stopped = False

    def begin(self) -> None:
        """Runs the model in floating point on another thread; nobody else may use the bench before ``measure``."""
        if self._ahead is None and "_reference" not in self.__dict__:
            threads = torch.get_num_threads()
            torch.set_num_threads(max(1, threads - 1))  # one is left to whoever called
            pool = ThreadPoolExecutor(1)
            self._ahead = pool.submit(self._distributions), threads
            pool.shutdown(wait=False)

    def stop(self) -> None:
        """Ends what ``begin`` began, if nobody measured anything."""
        if self._ahead is not None:
            self._stopped = True
            future, threads = self._ahead
            self._ahead = None
            future.exception()  # waits; who measures nothing need not hear of it
            torch.set_num_threads(threads)

    def measure(self, subnet: Mapping[str, LayerFormat] | None) -> Measurement:
        """Divergence, loss (the logarithm of the perplexity) and share of next tokens that are the likeliest one.

        Args:
            subnet: the model in floating point if None.

        Raises:
            ModelError: the logits hold inf or NaN.
        """
        windows = self._windows
        reference = self._reference if self._compares else [None] * len(windows)
        self._bench.hold(subnet)

        def sums(window: int) -> Tensor:
            return _sums(self._bench.logits(windows[window]), reference[window], windows[window])

        totals = torch.stack(on_threads(sums, range(len(windows)))).sum(0)
        places = windows.numel()
        predicted = places - len(windows)  # nothing tells what comes after the last token of a window
        divergence, loss, right = (totals / torch.tensor([places, predicted, predicted])).tolist()
        if not abs(divergence) + abs(loss) < math.inf:
            raise ModelError("a subnet's logits hold inf or NaN; check the model's weights")
        return Measurement(max(divergence, 0.0) if self._compares else math.inf, loss, right)

    @cached_property
    def _reference(self) -> list[Tensor]:
        if self._ahead is None:
            return self._distributions()
        future, threads = self._ahead
        self._ahead = None
        try:
            return future.result()
        finally:
            torch.set_num_threads(threads)

    def _distributions(self) -> list[Tensor]:
        """Logarithms of the probabilities that the model in floating point gives, [T, vocabulary] of each window."""
        kept = self._kept.read() if self._kept is not None else None
        if kept is not None:
            self._bench.hold_head()
            hidden_states = kept["hidden"]

            def distributions(window: int) -> Tensor:
                return self._bench.head(hidden_states[window]).log_softmax(1)

            return on_threads(distributions, range(len(self._windows)))
        self._bench.hold(None)
        found: list[Tensor] = []
        states: list[Tensor] = []
        for ids in self._windows:
            if self._stopped:
                return found
            hidden, logits = self._bench.hidden(ids)
            states.append(hidden)
            found.append(logits.log_softmax(1))
            if self._kept is not None and len(found) == 1:
                exact = torch.equal(self._bench.head(hidden), logits)
        if self._kept is not None and exact:
            self._kept.write({"hidden": torch.stack(states)})
        return found


def _sums(logits: Tensor, reference: Tensor | None, ids: Tensor) -> Tensor:
    """Over the places of one window: divergences (0 without reference), losses, next tokens found; float64 [3]."""
    total = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(ids), ROWS):
        found = logits[start : start + ROWS].log_softmax(1)
        following = ids[start + 1 : start + ROWS + 1]
        if reference is not None:
            expected = reference[start : start + ROWS]
            total[0] += (expected.exp() * (expected - found)).sum(1).double().sum()
        predicted = found[: len(following)]
        total[1] -= predicted.gather(1, following[:, None]).double().sum()
        total[2] += (predicted.argmax(1) == following).sum()
    return total
