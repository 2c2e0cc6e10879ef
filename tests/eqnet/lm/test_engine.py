"""Sessions give the logits that transformers gives for the whole text at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from eqnet.errors import InputError
from eqnet.lm import engine as module
from eqnet.lm.engine import TransformersEngine, engine_of
from eqnet.randomness import seeded
from tests.eqnet.lm.models import CONFIGS, VOCABULARY, random_ids, random_model
from tests.eqnet.lm.packed_models import packed_model

ROUNDING = 2e-5
"""Logits of about 1 in float32: products over other lengths are added up in another order."""


@pytest.mark.parametrize("piece", [512, 5], ids=["at once", "in pieces"])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_whole_text(name: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    model, ids = random_model(name), random_ids(24)
    with torch.inference_mode():
        expected = model(ids[None]).logits[0]
    session = TransformersEngine(model).session(24)
    found = [session.feed(ids[:13])[None], session.feed(ids[13:14])[None], session.feed_all(ids[14:])]
    assert session.position == 24
    np.testing.assert_allclose(np.concatenate(found), expected[12:], rtol=0, atol=ROUNDING)


def test_a_sliding_window_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 5)
    config = CONFIGS["gemma3"]()
    config.sliding_window, config.layer_types = 8, ["sliding_attention", "full_attention"]
    with seeded(0):
        model, ids = transformers.Gemma3ForCausalLM(config).eval(), random_ids(24)
    with torch.inference_mode():
        expected = model(ids[None]).logits[0]
    session = TransformersEngine(model).session(24)
    found = [session.feed_all(ids[:17]), *(session.feed(ids[i : i + 1])[None] for i in range(17, 24))]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=ROUNDING)


def test_a_model_that_keeps_a_state_instead_of_keys_runs() -> None:
    config = transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
    with seeded(0):
        model, ids = transformers.MambaForCausalLM(config).eval(), random_ids(12)
    with torch.inference_mode():
        expected = model(ids[None]).logits[0]
    session = TransformersEngine(model, context=16).session(12)
    found = [session.feed_all(ids[:7]), *(session.feed(ids[i : i + 1])[None] for i in range(7, 12))]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=ROUNDING)


def test_packed_weights_run_and_sessions_do_not_mix() -> None:
    _, packed = packed_model()
    engine = engine_of(packed)
    first, second = engine.session(16), engine.session(16)
    a, b = random_ids(6), random_ids(9, seed=1)
    first.feed(a[:3])
    second.feed(b)
    with torch.inference_mode():
        expected = packed(input_ids=a[None]).logits[0, -1]
    np.testing.assert_allclose(first.feed(a[3:]), expected, rtol=0, atol=ROUNDING)


def test_engine_says_what_it_is() -> None:
    model, packed = packed_model()
    assert str(TransformersEngine(model)) == "LlamaForCausalLM of transformers in float32"
    assert str(TransformersEngine(packed)) == "LlamaForCausalLM of transformers on packed weights"
    assert (TransformersEngine(model).context, TransformersEngine(model).vocabulary) == (64, VOCABULARY)
    assert TransformersEngine(model, context=10).context == 10


def test_what_does_not_fit_is_refused() -> None:
    engine = TransformersEngine(random_model("llama"))
    with pytest.raises(InputError, match="text of 65 tokens was asked for; the context holds 1 to 64"):
        engine.session(65)
    session = engine.session(4)
    session.feed([1, 2, 3])
    with pytest.raises(InputError, match=r"shape \(2,\) at position 3 of 4"):
        session.feed([1, 2])
    with pytest.raises(InputError, match="context of 65 tokens was asked for; the model's positions go up to 64"):
        TransformersEngine(random_model("llama"), context=65)
    with pytest.raises(InputError, match="a Linear is no causal language model"):
        TransformersEngine(nn.Linear(2, 2))
