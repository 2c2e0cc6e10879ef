"""One answer: its text, why it ended, and its figures."""

from __future__ import annotations

import pytest
import torch
import transformers

from eqnet.errors import InputError
from eqnet.lm.answering import Answer, Asked, Finish
from eqnet.lm.engine import TransformersEngine
from eqnet.lm.generation import generate
from eqnet.lm.sampling import Sampling
from eqnet.randomness import seeded
from tests.eqnet.lm.models import CONFIGS
from tests.eqnet.lm.packed_models import BYTES, byte_tokenizer

PROMPT = list(b"once")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    config = CONFIGS["llama"]()
    config.vocab_size = BYTES
    with seeded(0):
        return TransformersEngine(transformers.LlamaForCausalLM(config).eval())


DRAWN = Sampling(1.0, seed=1)


def drawn(engine: TransformersEngine, count: int) -> list[int]:
    return list(generate(engine, PROMPT, DRAWN, most=count))


def test_text_is_that_of_all_its_tokens(engine: TransformersEngine) -> None:
    answer = Answer(engine, PROMPT, byte_tokenizer(), Asked(DRAWN, most=30))
    text = "".join(answer)
    assert answer.ids == drawn(engine, 30)
    assert text == byte_tokenizer().decode(answer.ids, skip_special_tokens=True)
    assert answer.finish is Finish.LENGTH
    assert answer.first is not None
    assert 0 < answer.first < answer.seconds
    assert answer.tokens_per_second == pytest.approx(29 / (answer.seconds - answer.first))


def test_the_token_that_ends_it_has_no_text(engine: TransformersEngine) -> None:
    tokens = drawn(engine, 10)
    stop = tokens[6]
    answer = Answer(engine, PROMPT, byte_tokenizer(), Asked(DRAWN, frozenset([stop]), most=30))
    text = "".join(answer)
    assert answer.ids == tokens[: tokens.index(stop) + 1]
    assert text == byte_tokenizer().decode(answer.ids[:-1], skip_special_tokens=True)
    assert answer.finish is Finish.STOP


def test_ends_before_a_phrase(engine: TransformersEngine) -> None:
    whole = "".join(Answer(engine, PROMPT, byte_tokenizer(), Asked(DRAWN, most=30)))
    letter = next(letter for letter in whole[3:] if letter.isascii() and letter.isprintable())
    answer = Answer(engine, PROMPT, byte_tokenizer(), Asked(DRAWN, phrases=(letter,), most=30))
    assert "".join(answer) == whole[: whole.index(letter)]
    assert answer.finish is Finish.STOP
    assert len(answer.ids) < 30


def test_without_a_tokenizer_the_text_is_the_ids(engine: TransformersEngine) -> None:
    answer = Answer(engine, PROMPT, None, Asked(DRAWN, most=5))
    assert "".join(answer) == " ".join(map(str, drawn(engine, 5)))


def test_says_when_the_context_is_full(engine: TransformersEngine) -> None:
    answer = Answer(engine, [1] * 60, None, Asked(most=100))
    assert len("".join(answer).split()) == 4
    assert answer.finish is Finish.CONTEXT


def test_figures_are_right_when_the_rest_is_not_asked_for(engine: TransformersEngine) -> None:
    answer = Answer(engine, PROMPT, None, Asked(DRAWN, most=30))
    pieces = iter(answer)
    next(pieces), next(pieces)
    assert (answer.ids, answer.finish) == (drawn(engine, 2), Finish.INTERRUPTED)
    assert torch.equal(torch.tensor(answer.prompt), torch.tensor(PROMPT))


def test_phrases_are_checked(engine: TransformersEngine) -> None:
    with pytest.raises(InputError, match="stop at is empty"):
        Asked(phrases=("a", ""))
    with pytest.raises(InputError, match="need a tokenizer"):
        Answer(engine, PROMPT, None, Asked(phrases=("a",)))
