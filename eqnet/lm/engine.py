"""What runs a language model: eqnet's decoder, or transformers' own forward pass where there is nothing faster."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eqnet.errors import InputError
from eqnet.lm.generation import Engine, Ids, Session, checked_context, checked_ids, checked_length
from eqnet.packed.model import PackedModel

PIECE = 512
"""Tokens that go through the model at once, which bounds the memory of a long prompt."""


class TransformersEngine:
    """A model of transformers, packed or in floating point, with keys and values in memory set aside at the start.

    Args:
        model: a causal language model, or the packed one.
        context: most tokens of a text; what the model's configuration says if None.

    Attributes:
        model: of transformers.

    Raises:
        InputError: the model is no causal language model, or the context is longer than the model's.
    """

    def __init__(self, model: nn.Module | PackedModel, *, context: int | None = None) -> None:
        self._packed = isinstance(model, PackedModel)
        self.model: Any = model.model if isinstance(model, PackedModel) else model
        if not is_language_model(self.model):
            raise InputError(f"a {type(self.model).__name__} is no causal language model of transformers")
        config: Any = self.model.config
        self._config: Any = config.get_text_config(decoder=True)
        self._longest = int(getattr(self._config, "max_position_embeddings", None) or 2048)
        self.context = checked_context(context, self._longest)
        self.vocabulary = int(self._config.vocab_size)

    def __str__(self) -> str:
        how = "on packed weights" if self._packed else f"in {str(self.model.dtype).removeprefix('torch.')}"
        return f"{type(self.model).__name__} of transformers {how}"

    def session(self, length: int) -> Session:
        """See ``Engine``."""
        checked_length(length, self.context)
        cached = {"cache", "past_key_values"} & set(inspect.signature(self.model.forward).parameters)
        if not cached:
            return _Repeating(self.model, length)
        from transformers import StaticCache

        name = "cache" if "cache" in cached else "past_key_values"  # as older versions call it
        return _Cached(self.model, length, name, StaticCache(config=self._config, max_cache_len=length))


def engine_of(
    packed: PackedModel, *, compute: str | None = None, threads: int | None = None, context: int | None = None
) -> Engine:
    """What runs ``packed`` fastest here.

    Args:
        packed: a causal language model.
        compute: how products are taken (see ``PackedModel.compute``); as the model does if None.
        threads: PyTorch's number if None.
        context: most tokens of a text; what the model's configuration says if None.

    Raises:
        InputError: it is no causal language model, or the context is longer than the model's.
    """
    if not is_language_model(packed.model):
        raise InputError(f"a {type(packed.model).__name__} is no causal language model of transformers")
    if compute is not None:
        packed.compute = compute
    if threads is not None:
        torch.set_num_threads(threads)
    from eqnet.lm.decoder.blocks import UnknownBlockError
    from eqnet.lm.decoder.model import decoder_of

    try:
        return decoder_of(packed, context=context)
    except UnknownBlockError:
        return TransformersEngine(packed, context=context)


def is_language_model(model: object) -> bool:
    """Whether ``model`` is a causal language model of transformers."""
    can_generate = getattr(model, "can_generate", None)
    if not callable(can_generate) or not can_generate():
        return False
    config: Any = getattr(model, "config", None)
    return not getattr(config, "is_encoder_decoder", False)


class _Running(ABC):
    """What both kinds of sessions share."""

    def __init__(self, model: Any, length: int) -> None:
        self._model, self._length = model, length
        self.position = 0
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def feed(self, ids: Ids) -> NDArray[np.float32]:
        """See ``Session``."""
        pieces = torch.split(self._checked(ids), PIECE)
        for piece in pieces[:-1]:
            self._run(piece, last=True)
        return _array(self._run(pieces[-1], last=True)[-1])

    def feed_all(self, ids: Ids) -> NDArray[np.float32]:
        """See ``Session``."""
        return _array(torch.cat([self._run(piece, last=False) for piece in torch.split(self._checked(ids), PIECE)]))

    def _checked(self, ids: Ids) -> Tensor:
        return torch.from_numpy(checked_ids(ids, self.position, self._length)).to(self._model.device)

    @torch.inference_mode()
    def _run(self, ids: Tensor, *, last: bool) -> Tensor:
        """Logits, float32 [T, vocabulary], or [1, vocabulary] if ``last``; the position is moved on."""
        given: dict[str, Any] = {"logits_to_keep": 1} if last and self._keeps else {}
        logits = self._forward(ids, given)
        self.position += len(ids)
        return logits[-1:].float() if last else logits.float()

    @abstractmethod
    def _forward(self, ids: Tensor, given: dict[str, Any]) -> Tensor:
        """Logits of the model for ids [T], called with what is ``given`` as well, [T or fewer, vocabulary]."""


class _Cached(_Running):
    """Keys and values are kept, in memory for the whole text."""

    def __init__(self, model: Any, length: int, name: str, cache: Any) -> None:
        super().__init__(model, length)
        self._cache = {name: cache}

    def _forward(self, ids: Tensor, given: dict[str, Any]) -> Tensor:
        logits: Tensor = self._model(input_ids=ids[None], use_cache=True, **self._cache, **given).logits[0]
        return logits


class _Repeating(_Running):
    """Of a model without keys and values: the whole text goes through it each time."""

    def __init__(self, model: Any, length: int) -> None:
        super().__init__(model, length)
        self._text = torch.empty(0, dtype=torch.int64, device=model.device)

    def _forward(self, ids: Tensor, given: dict[str, Any]) -> Tensor:
        self._text = torch.cat([self._text, ids])
        logits: Tensor = self._model(input_ids=self._text[None], use_cache=False, **given).logits[0]
        return logits[-len(ids) :]


def _array(logits: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = logits.cpu().numpy()
    return array
