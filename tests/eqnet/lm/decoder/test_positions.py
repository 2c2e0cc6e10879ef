"""Frequencies of positions are those of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from eqnet.lm.decoder import UnknownBlockError
from eqnet.lm.decoder.positions import frequencies

ULP = 2.0**-22
"""PyTorch's powers are rounded otherwise now and then, and sums of two frequencies add what both are off."""

_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
GIVEN: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 500000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0},
    "linear of a half": {"rope_type": "linear", "rope_theta": 10000, "factor": 3, "partial_rotary_factor": 0.5},
    "llama3": {**_LLAMA3, "rope_theta": 500000.0, "original_max_position_embeddings": 2048},
    "llama3 of small context": {**_LLAMA3, "rope_theta": 10000.0, "original_max_position_embeddings": 64},
    "yarn": {**_YARN, "rope_theta": 10000.0},
    "yarn with ends": {**_YARN, "rope_theta": 1e6, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
    "yarn of scale": {**_YARN, "rope_theta": 1e6, "attention_factor": 1.5},
    "yarn of two scales": {**_YARN, "rope_theta": 1e6, "mscale": 1.0, "mscale_all_dim": 0.5},
}


@pytest.mark.parametrize("head_dim", [64, 80, 128])
@pytest.mark.parametrize("name", GIVEN)
def test_they_are_those_of_transformers(name: str, head_dim: int) -> None:
    given = GIVEN[name]
    config = transformers.LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=8192,
        rope_parameters=dict(given),
    )
    kind = given["rope_type"]
    make = ROPE_INIT_FUNCTIONS.get(kind) or LlamaRotaryEmbedding.compute_default_rope_parameters
    expected, scale = make(config)
    found, found_scale = frequencies(given, head_dim, 8192, partial=False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=ULP, atol=0)
    assert found_scale == scale


def test_a_part_of_the_elements_is_turned_where_the_family_does_so() -> None:
    given = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    found, _ = frequencies(given, 64, 8192, partial=True)
    assert np.array_equal(found, frequencies({**given, "partial_rotary_factor": 1.0}, 32, 8192, partial=True)[0])
    with pytest.raises(UnknownBlockError, match="a part of a head"):
        frequencies(given, 64, 8192, partial=False)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rope_type": "longrope"}, "positions are of type 'longrope'; known are default, linear, llama3, yarn"),
        ({}, "positions are of type 'None'"),
        ({"rope_type": "linear", "rope_theta": 1e4}, r"not described whole \(KeyError\('factor'\)\)"),
        ({"rope_type": "default", "rope_theta": "much"}, "not described whole"),
        ({"rope_type": "linear", "rope_theta": 1e4, "factor": 0.0}, "not finite"),
        ({"rope_type": "default", "rope_theta": -1e4}, "not finite"),
        ({"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 1e9}, "of 64 are turned"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UnknownBlockError, match=words):
        frequencies(given, 64, 8192, partial=False)
