"""Drawing tokens, against the same in NumPy and against what frequencies say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eqnet.errors import InputError, ModelError
from eqnet.lm.sampling import Sampling, pick, probabilities

ROUNDING = 1e-12
"""Of sums of 50 shares in float64."""


def by_hand(logits: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """Goes through the tokens from the likeliest down, one by one."""
    weights = [(math.exp(x / sampling.temperature), token) for token, x in enumerate(logits.tolist())]
    weights.sort(key=lambda pair: (-pair[0], pair[1]))
    kept = weights[: sampling.top_k] if sampling.top_k else weights
    total = sum(weight for weight, _ in kept)
    nucleus, held = [], 0.0
    for weight, token in kept:
        nucleus.append((weight, token))
        held += weight / total
        if held >= sampling.top_p:
            break
    share = sum(weight for weight, _ in nucleus)
    result = np.zeros(len(logits))
    for weight, token in nucleus:
        result[token] = weight / share
    return result


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0),
        Sampling(0.3),
        Sampling(2.5, top_k=7),
        Sampling(1.0, top_p=0.6),
        Sampling(0.7, top_k=20, top_p=0.85),
        Sampling(1.0, top_p=1e-9),
        Sampling(1.0, top_k=1000),
    ],
    ids=str,
)
def test_probabilities_are_those_by_hand(sampling: Sampling, generator: torch.Generator) -> None:
    logits = 2 * torch.randn(50, generator=generator)
    logits[3] = logits[11]
    found = probabilities(logits, sampling)
    np.testing.assert_allclose(found, by_hand(logits.double().numpy(), sampling), atol=ROUNDING)


def test_among_equals_the_lower_ids_are_kept() -> None:
    found = probabilities(torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0]), Sampling(1.0, top_k=2))
    assert found.tolist() == [0, 0.5, 0.5, 0, 0]


def test_greedy_takes_the_first_of_equals_and_draws_nothing(generator: torch.Generator) -> None:
    before = generator.get_state()
    assert pick(torch.tensor([0.0, 3.0, 1.0, 3.0]), Sampling(), generator) == 1
    assert torch.equal(generator.get_state(), before)


def test_tokens_come_as_often_as_they_are_likely(generator: torch.Generator) -> None:
    shares, draws = torch.tensor([0.5, 0.3, 0.15, 0.05]), 2000
    logits = (shares**1.5).log()
    tokens = [pick(logits, Sampling(1.5), generator) for _ in range(draws)]
    counts = torch.bincount(torch.tensor(tokens), minlength=4)
    # Pearson's statistic with 3 degrees of freedom exceeds 16.3 once in a thousand seeds.
    assert float(((counts - draws * shares) ** 2 / (draws * shares)).sum()) < 16.3


def test_same_seed_draws_the_same_and_leaves_the_global_source_alone() -> None:
    logits, sampling = torch.linspace(0, 1, 40), Sampling(1.0, seed=7)
    before = torch.get_rng_state()
    first, second = (
        [pick(logits, sampling, source) for _ in range(20)] for source in (sampling.generator(), sampling.generator())
    )
    assert first == second
    assert len(set(first)) > 5
    assert torch.equal(torch.get_rng_state(), before)


def test_a_token_that_cannot_be_is_never_drawn(generator: torch.Generator) -> None:
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0])
    assert {pick(logits, Sampling(1.0), generator) for _ in range(50)} == {1, 3}


def test_nan_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ModelError, match="hold NaN"):
        pick(torch.tensor([1.0, math.nan]), Sampling(), generator)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": -0.1}, "temperature -0.1; expected 0"),
        ({"temperature": math.inf}, "temperature inf"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"top_p": 0.0}, "top-p 0.0; expected a share"),
        ({"top_p": 1.5}, "top-p 1.5"),
        ({"top_k": -1}, "top-k -1"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Sampling(**values)  # type: ignore[arg-type]
