"""Conversations: what the model is told, and what is not worked through twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray

from eqnet.errors import InputError
from eqnet.lm.answering import Answer, Asked
from eqnet.lm.chat import Conversation
from eqnet.lm.engine import TransformersEngine
from eqnet.lm.generation import Ids, Session
from eqnet.lm.sampling import Sampling
from eqnet.randomness import seeded
from tests.eqnet.lm.models import CONFIGS
from tests.eqnet.lm.packed_models import BYTES, END, byte_tokenizer

ASKED = Asked(Sampling(1.0, seed=1), frozenset([END]), most=12)


class Letters:
    """An engine that says "a" whatever it is told, and keeps what it is fed."""

    context, vocabulary = 2000, BYTES

    def __init__(self) -> None:
        self.sessions: list[list[int]] = []

    def session(self, length: int) -> Session:
        fed: list[int] = []
        self.sessions.append(fed)

        class One:
            @property
            def position(self) -> int:
                return len(fed)

            def feed(self, ids: Ids) -> NDArray[np.float32]:
                fed.extend(ids)
                assert len(fed) <= length
                return (np.arange(BYTES) == ord("a")).astype(np.float32)

            def feed_all(self, ids: Ids) -> NDArray[np.float32]:
                raise AssertionError("a chat asks for what follows the last token alone")

        return One()


@pytest.fixture(scope="module")
def model() -> Any:
    config = CONFIGS["llama"]()
    config.vocab_size, config.max_position_embeddings = BYTES, 256
    with seeded(0):
        return transformers.LlamaForCausalLM(config).eval()


def said(conversation: Conversation, question: str) -> tuple[str, Answer]:
    answer = conversation.ask(question)
    text = "".join(answer)
    conversation.heard(answer, text)
    return text, answer


def test_answers_are_those_to_all_that_was_said(model: Any) -> None:
    conversation = Conversation(TransformersEngine(model), byte_tokenizer(), ASKED, "Be kind.")
    first, _ = said(conversation, "Hi")
    second, answer = said(conversation, "More")
    text = f"<turn>system:Be kind.</s><turn>user:Hi</s><turn>assistant:{first}</s><turn>user:More</s><turn>assistant:"
    assert answer.prompt == byte_tokenizer()(text, add_special_tokens=False).input_ids
    assert second == "".join(Answer(TransformersEngine(model), answer.prompt, byte_tokenizer(), ASKED))


def test_what_was_said_is_fed_once() -> None:
    engine = Letters()
    conversation = Conversation(engine, byte_tokenizer(), Asked(most=4))
    for question in ("one", "two", "three"):
        text, answer = said(conversation, question)
        assert text == "aaaa"
    assert engine.sessions == [[*answer.prompt, *answer.ids[:-1]]]


def test_a_conversation_that_outgrows_its_memory_is_fed_again() -> None:
    engine = Letters()
    conversation = Conversation(engine, byte_tokenizer(), Asked(most=4))
    for _ in range(3):
        _, answer = said(conversation, "x" * 500)
    assert len(engine.sessions) == 2
    assert engine.sessions[-1] == [*answer.prompt, *answer.ids[:-1]]


def test_an_answer_that_was_cut_is_kept_as_far_as_it_came() -> None:
    engine = Letters()
    conversation = Conversation(engine, byte_tokenizer(), Asked(most=9))
    answer = conversation.ask("one")
    pieces = iter(answer)
    conversation.heard(answer, next(pieces) + next(pieces))
    assert "user:one</s><turn>assistant:aa</s>" in byte_tokenizer().decode(conversation.ask("two").prompt)


def test_the_oldest_is_forgotten_when_the_context_is_full(model: Any) -> None:
    conversation = Conversation(TransformersEngine(model, context=100), byte_tokenizer(), ASKED, "S")
    for question in ("first " * 3, "second " * 3, "third " * 3):
        said(conversation, question)
    assert conversation.forgotten > 0
    assert conversation.messages[0]["content"] != "first " * 3
    assert conversation.messages[-2]["content"] == "third " * 3
    assert byte_tokenizer().decode(conversation.prompt()).startswith("<turn>system:S")


def test_a_question_that_cannot_fit_is_refused_and_not_kept(model: Any) -> None:
    conversation = Conversation(TransformersEngine(model, context=100), byte_tokenizer(), ASKED)
    said(conversation, "Hi")
    with pytest.raises(InputError, match=r"the prompt has \d+ tokens; with one to follow it may have 99"):
        conversation.ask("x" * 200)
    text, _ = said(conversation, "Hi")
    assert isinstance(text, str)


@pytest.mark.parametrize(
    ("tokenizer", "missing"), [(None, "tokenizer"), (byte_tokenizer(None), "chat template")], ids=["none", "plain"]
)
def test_what_a_conversation_needs_is_named(model: Any, tokenizer: Any, missing: str) -> None:
    with pytest.raises(InputError, match=f"the model has no {missing}.* without --chat"):
        Conversation(TransformersEngine(model), tokenizer, ASKED)


def test_a_template_that_refuses_is_told(model: Any) -> None:
    tokenizer = byte_tokenizer("{{ raise_exception('no system message') }}")
    conversation = Conversation(TransformersEngine(model), tokenizer, ASKED, "S")
    with pytest.raises(InputError, match=r"template refuses the conversation .*no system message"):
        conversation.ask("Hi")
