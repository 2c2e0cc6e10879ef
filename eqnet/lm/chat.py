"""A conversation in the words of a model's chat template; what was said is not worked through again."""

from __future__ import annotations

from typing import Any

from eqnet.errors import InputError, MissingPackageError
from eqnet.lm.answering import Answer, Asked
from eqnet.lm.generation import Engine, Session

ROOM = 1024
"""Least tokens that memory is set aside for; a conversation that outgrows it is worked through again in twice that."""

Message = dict[str, str]


class Conversation:
    """Questions and answers, each in the knowledge of those before.

    Where the context is full, the oldest questions are forgotten with their answers; the system's message never is.

    Args:
        engine: what runs the model.
        tokenizer: with a chat template.
        asked: how to answer.
        system: what the model is told before all.

    Attributes:
        messages: what was said, the last answer once it is complete.
        forgotten: questions that did not fit into the context any more.

    Raises:
        InputError: the tokenizer is missing or has no chat template.
    """

    def __init__(self, engine: Engine, tokenizer: Any, asked: Asked, system: str | None = None) -> None:
        if tokenizer is None or not getattr(tokenizer, "chat_template", None):
            missing = "tokenizer" if tokenizer is None else "chat template"
            raise InputError(f"the model has no {missing}, which a conversation needs; give a prompt without --chat")
        self._engine, self._tokenizer, self._asked = engine, tokenizer, asked
        self._system: list[Message] = [{"role": "system", "content": system}] if system is not None else []
        self.messages: list[Message] = []
        self.forgotten = 0
        self._session: Session | None = None
        self._length = 0
        self._fed: list[int] = []

    def ask(self, question: str) -> Answer:
        """The answer, of which nothing is computed yet; pass its text to ``heard``.

        Raises:
            InputError: the question alone does not fit into the context, or the template refuses it.
        """
        self.messages.append({"role": "user", "content": question})
        try:
            prompt = self._fitting()
            session = self._resumed(prompt)
            return Answer(self._engine, prompt, self._tokenizer, self._asked, session=session)
        except InputError:
            self.messages.pop()
            raise

    def heard(self, answer: Answer, text: str) -> None:
        """Keeps what was answered, complete or not, for what is asked next."""
        self.messages.append({"role": "assistant", "content": text})
        if self._session is not None:
            self._fed = [*answer.prompt, *answer.ids][: self._session.position]

    def prompt(self) -> list[int]:
        """Ids of all that was said, up to where the model is to answer."""
        try:
            text = self._tokenizer.apply_chat_template(
                [*self._system, *self.messages], tokenize=False, add_generation_prompt=True
            )
        except ImportError as e:
            raise MissingPackageError(f"chat templates need jinja2 ({e}); pip install 'eqnet[hf]'") from e
        except Exception as e:
            raise InputError(f"the model's chat template refuses the conversation ({type(e).__name__}: {e})") from e
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _fitting(self) -> list[int]:
        """The prompt, after forgetting what no longer fits before an answer as long as was asked for."""
        wanted = min(self._asked.most or 1, self._engine.context // 2)
        ids = self.prompt()
        while len(ids) + wanted > self._engine.context and len(self.messages) > 2:
            del self.messages[:2]
            self.forgotten += 1
            ids = self.prompt()
        return ids

    def _resumed(self, prompt: list[int]) -> Session:
        """The session that was fed the beginning of ``prompt``, or else a new one."""
        most, session = self._asked.most, self._session
        needed = self._engine.context if most is None else min(len(prompt) + most, self._engine.context)
        known = self._fed == prompt[: len(self._fed)] and len(self._fed) < len(prompt)
        if session is None or needed > self._length or not known or session.position != len(self._fed):
            self._length = min(max(ROOM, 2 * needed), self._engine.context)
            session = self._session = self._engine.session(self._length)
            self._fed = []
        return session
