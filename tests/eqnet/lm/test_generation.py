"""Tokens that follow a prompt, against transformers' own generation."""

from __future__ import annotations

import pytest
import torch

from eqnet.errors import InputError
from eqnet.lm.engine import TransformersEngine
from eqnet.lm.generation import generate
from eqnet.lm.sampling import Sampling
from tests.eqnet.lm.models import VOCABULARY, random_ids, random_model


@pytest.mark.parametrize("name", ["llama", "gpt2", "glm4"])
def test_greedy_tokens_are_those_of_transformers(name: str) -> None:
    model, ids = random_model(name), random_ids(9)
    with torch.inference_mode():
        expected = model.generate(
            ids[None], attention_mask=torch.ones(1, 9), max_new_tokens=20, do_sample=False, eos_token_id=None
        )[0, 9:]
    assert list(generate(TransformersEngine(model), ids, most=20)) == expected.tolist()


def test_ends_after_a_token_to_stop_at() -> None:
    engine, ids = TransformersEngine(random_model("llama")), random_ids(5).tolist()
    tokens = list(generate(engine, ids, Sampling(1.0, seed=3), most=30))
    last = tokens[7]
    assert list(generate(engine, ids, Sampling(1.0, seed=3), {last}, most=30)) == tokens[: tokens.index(last) + 1]


def test_fills_the_context_and_no_more() -> None:
    engine = TransformersEngine(random_model("llama"), context=12)
    assert len(list(generate(engine, random_ids(5)))) == 7
    assert len(list(generate(engine, random_ids(11), most=5))) == 1
    assert list(generate(engine, random_ids(5), most=0)) == []


def test_goes_on_with_a_session() -> None:
    engine, ids = TransformersEngine(random_model("llama")), random_ids(9).tolist()
    expected = list(generate(engine, ids, most=6))
    session = engine.session(30)
    session.feed(ids[:4])
    assert list(generate(engine, ids, most=6, session=session)) == expected
    assert session.position == 9 + 5, "the last token is not fed"


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([], "the prompt is empty"),
        ([1, VOCABULARY], "token 96 is none of the model's 96; ids go from 0 to 95"),
        ([-1], "token -1 is none"),
        ([1] * 64, "the prompt has 64 tokens; with one to follow it may have 63, as the context holds 64"),
    ],
    ids=["empty", "above", "below", "long"],
)
def test_prompts_that_cannot_be_are_refused_before_any_work(ids: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        generate(TransformersEngine(random_model("llama")), ids)
