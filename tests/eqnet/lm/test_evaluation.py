"""Perplexity and divergence, against the same in NumPy and float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eqnet.errors import InputError, ModelError
from eqnet.lm import evaluation
from eqnet.lm.engine import TransformersEngine
from eqnet.lm.evaluation import Divergence, Perplexity, counted_bytes, divergence, perplexity
from tests.eqnet.lm.models import VOCABULARY, random_ids, random_model
from tests.eqnet.lm.packed_models import byte_tokenizer, packed_model

ROUNDING = 1e-6
"""Of means of float32 logits, taken in float64."""


def log_probabilities(model: Any, ids: Tensor) -> np.ndarray[Any, Any]:
    """[T, vocabulary] in float64, normalized without torch."""
    with torch.inference_mode():
        logits = model(ids[None]).logits[0].double().numpy()
    result: np.ndarray[Any, Any] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return result


@pytest.mark.parametrize("rows", [128, 4], ids=["at once", "in pieces"])
def test_perplexity_counts_all_but_the_first_of_each_window(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ROWS", rows)
    model, windows = random_model("llama"), random_ids(3, 10)
    total = 0.0
    for window in windows:
        logs = log_probabilities(model, window)
        total -= sum(logs[place, int(window[place + 1])] for place in range(9))
    for given in (TransformersEngine(model), model, lambda ids: model(ids).logits):
        found = perplexity(given, windows)
        assert found.tokens == 27
        assert found.nats == pytest.approx(total / 27, abs=ROUNDING)
        assert found.value == pytest.approx(math.exp(total / 27), rel=ROUNDING)


def test_bits_per_byte_are_those_of_the_counted_text() -> None:
    windows = torch.tensor([[*"aé.".encode()], [*b"wxyz"]])
    assert counted_bytes(byte_tokenizer(), windows) == 3 + 3
    found = Perplexity(nats=2 * math.log(2), tokens=6, bytes=24)
    assert found.bits_per_byte == pytest.approx(0.5)
    assert Perplexity(1.0, 6).bits_per_byte is None


def test_equal_likelihoods_make_the_vocabulary_the_perplexity() -> None:
    found = perplexity(lambda ids: torch.zeros(*ids.shape, VOCABULARY), random_ids(2, 5))
    assert found.value == pytest.approx(VOCABULARY)


def test_divergence_is_that_of_every_place() -> None:
    model, packed = packed_model(choices="w=2:group32:asym a=float edge=none scale=fp16")
    windows = random_ids(3, 10)
    total, same = 0.0, 0
    for window in windows:
        p, q = log_probabilities(model, window), log_probabilities(packed, window)
        total += float((np.exp(p) * (p - q)).sum())
        same += int((p.argmax(1) == q.argmax(1)).sum())
    stages = []
    found = divergence(
        TransformersEngine(model), TransformersEngine(packed), windows, report=lambda *told: stages.append(told[1:])
    )
    assert found.nats == pytest.approx(total / 30, abs=ROUNDING)
    assert found.nats > 10 * ROUNDING
    assert (found.agreement, found.places) == (same / 30, 30)
    assert stages == [(1, 3), (2, 3), (3, 3)]


def test_a_model_does_not_differ_from_itself() -> None:
    engine = TransformersEngine(random_model("llama"))
    assert divergence(engine, engine, random_ids(1, 8)) == Divergence(0.0, 1.0, 8)


@pytest.mark.parametrize("shape", [(0, 5), (2, 1), (5,)], ids=str)
def test_windows_that_cannot_be_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="windows of shape"):
        perplexity(random_model("llama"), random_ids(*shape))


def test_what_does_not_go_together_is_refused() -> None:
    engine = TransformersEngine(random_model("llama"))
    with pytest.raises(InputError, match="token 96 is none of the model's 96"):
        perplexity(engine, torch.tensor([[1, 96]]))
    with pytest.raises(InputError, match="vocabularies of 96 and 3 tokens"):
        divergence(engine, lambda ids: torch.zeros(*ids.shape, 3), random_ids(1, 4))
    with pytest.raises(ModelError, match="hold inf or NaN"):
        perplexity(lambda ids: torch.full((*ids.shape, VOCABULARY), math.nan), random_ids(1, 4))
