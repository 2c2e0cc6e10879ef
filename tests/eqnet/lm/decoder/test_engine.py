"""The decoder gives the logits and the texts that transformers gives."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from eqnet.errors import InputError
from eqnet.lm.decoder import Decoder
from eqnet.lm.engine import TransformersEngine, engine_of
from eqnet.lm.generation import generate
from eqnet.packed.model import PackedModel
from tests.eqnet.lm.decoder.packed import KNOWN, packed
from tests.eqnet.lm.models import VOCABULARY, random_ids

ROUNDING = 2e-5
"""Logits of up to 5 in float32, whose sums are taken in another order."""

INT8 = 0.5
"""Of the same: inputs of all layers are rounded to 8 bits."""

LENGTH = 48


@functools.cache
def model(name: str) -> PackedModel:
    return packed(KNOWN[name]())


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(decoder: Decoder, ids: torch.Tensor, *pieces: int) -> torch.Tensor:
    session = decoder.session(len(ids))
    return torch.from_numpy(np.concatenate([session.feed_all(part.numpy()) for part in ids.split(list(pieces))]))


@pytest.mark.parametrize("name", KNOWN)
def test_logits_are_those_of_transformers(name: str) -> None:
    decoder, ids = engine_of(model(name), compute="float"), random_ids(LENGTH)
    with torch.inference_mode():
        expected = model(name)(input_ids=ids[None]).logits[0]
    assert isinstance(decoder, Decoder)
    for pieces in ([LENGTH], [LENGTH - 1, 1], [1] * LENGTH):
        torch.testing.assert_close(run(decoder, ids, *pieces), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", KNOWN)
def test_integers_are_close_and_the_same_in_pieces_and_on_threads(name: str) -> None:
    ids = random_ids(LENGTH)
    expected = torch.from_numpy(engine_of(model(name), compute="float").session(LENGTH).feed_all(ids.numpy()))
    decoder = engine_of(model(name), compute="int8", threads=1)
    assert isinstance(decoder, Decoder)
    whole = run(decoder, ids, LENGTH)
    torch.testing.assert_close(whole, expected, rtol=0, atol=INT8)
    assert not torch.equal(whole, expected)
    assert torch.equal(run(decoder, ids, *[1] * LENGTH), whole)
    torch.set_num_threads(2)
    assert torch.equal(run(decoder, ids, 30, 18), whole)


@pytest.mark.parametrize("name", ["llama", "qwen2", "glm", "mistral with a window"])
def test_greedy_texts_are_those_of_transformers(name: str) -> None:
    decoder, ids = engine_of(model(name), compute="float"), random_ids(LENGTH).tolist()[:8]
    expected = list(generate(TransformersEngine(model(name)), ids, most=50))
    assert list(generate(decoder, ids, most=50)) == expected
    assert len(set(expected)) > 10


def test_the_last_logits_alone_and_sessions_side_by_side() -> None:
    decoder = engine_of(model("llama"), compute="int8")
    first, second = decoder.session(20), decoder.session(30)
    a, b = random_ids(20).numpy(), random_ids(30, seed=1).numpy()
    first.feed(a[:5])
    second.feed(b[:29])
    assert (first.position, second.position) == (5, 29)
    np.testing.assert_array_equal(first.feed(a[5:]), decoder.session(20).feed_all(a)[-1])
    np.testing.assert_array_equal(second.feed(b[29:]), decoder.session(30).feed(b))


def test_weights_of_other_precision_run() -> None:
    config = KNOWN["llama"]()
    config.dtype = torch.bfloat16
    made, ids = packed(config), random_ids(LENGTH)
    with torch.inference_mode():
        expected = made(input_ids=ids[None]).logits[0].float()
    found = engine_of(made).session(LENGTH).feed_all(ids.numpy())
    assert found.dtype == np.float32
    # The model has 8 bits of activations, where the decoder has 24.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.3)


def test_weights_are_in_memory_once_and_side_by_side() -> None:
    made = packed(KNOWN["glm4"]())
    decoder = engine_of(made)
    first, second = (made.layers[f"model.layers.0.mlp.{name}"] for name in ("gate_up_proj", "down_proj"))
    assert not first.is_prepared  # nothing is, before a text begins
    decoder.session(1)
    before = first.panels.codes.data_ptr()
    assert second.panels.codes.data_ptr() == before + first.panels.nbytes  # whole lines
    with torch.inference_mode():
        made(input_ids=random_ids(1, 4))
    assert first.panels.codes.data_ptr() == before


def test_says_what_it_is_and_what_does_not_fit() -> None:
    decoder = engine_of(model("llama"), compute="int8", context=50)
    assert str(decoder) == "LlamaForCausalLM on eqnet's own kernels, compute=int8"
    assert (decoder.context, decoder.vocabulary) == (50, VOCABULARY)
    with pytest.raises(InputError, match="text of 51 tokens was asked for; the context holds 1 to 50"):
        decoder.session(51)
    session = decoder.session(4)
    session.feed([1, 2, 3])
    with pytest.raises(InputError, match=r"shape \(2,\) at position 3 of 4"):
        session.feed([1, 2])
    with pytest.raises(IndexError, match="table of 96 rows"):
        session.feed([VOCABULARY])
    assert session.position == 3
    with pytest.raises(InputError, match="context of 65 tokens was asked for"):
        engine_of(model("llama"), context=65)
