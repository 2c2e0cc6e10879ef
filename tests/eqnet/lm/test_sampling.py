"""Drawing tokens, against the same in NumPy and against what frequencies say."""

from __future__ import annotations

import math
from collections import Counter
from random import Random, getstate

import numpy as np
import pytest
from numpy.typing import NDArray

from eqnet.errors import InputError, ModelError
from eqnet.lm.sampling import Sampling, pick, probabilities

ROUNDING = 1e-12
"""Of sums of 50 shares in float64."""


def array(*logits: float) -> NDArray[np.float32]:
    return np.array(logits, np.float32)


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
def test_probabilities_are_those_by_hand(sampling: Sampling) -> None:
    logits = 2 * np.random.default_rng(0).standard_normal(50, np.float32)
    logits[3] = logits[11]
    found = probabilities(logits, sampling)
    np.testing.assert_allclose(found, by_hand(logits.astype(np.float64), sampling), atol=ROUNDING)


def test_among_equals_the_lower_ids_are_kept() -> None:
    found = probabilities(array(0, 1, 1, 1, 1), Sampling(1.0, top_k=2))
    assert found.tolist() == [0, 0.5, 0.5, 0, 0]


def test_greedy_takes_the_first_of_equals_and_draws_nothing() -> None:
    generator = Random(0)
    before = generator.getstate()
    assert pick(array(0, 3, 1, 3), Sampling(), generator) == 1
    assert generator.getstate() == before


def test_tokens_come_as_often_as_they_are_likely() -> None:
    shares, draws, generator = (0.5, 0.3, 0.15, 0.05), 2000, Random(0)
    logits = array(*(math.log(share**1.5) for share in shares))
    counts = Counter(pick(logits, Sampling(1.5), generator) for _ in range(draws))
    # Pearson's statistic with 3 degrees of freedom exceeds 16.3 once in a thousand seeds.
    assert sum((counts[token] - draws * share) ** 2 / (draws * share) for token, share in enumerate(shares)) < 16.3


def test_same_seed_draws_the_same_and_leaves_the_global_source_alone() -> None:
    logits, sampling = np.linspace(0, 1, 40, dtype=np.float32), Sampling(1.0, seed=7)
    before = getstate()
    first, second = (
        [pick(logits, sampling, source) for _ in range(20)] for source in (sampling.generator(), sampling.generator())
    )
    assert first == second
    assert len(set(first)) > 5
    assert getstate() == before


def test_a_token_that_cannot_be_is_never_drawn() -> None:
    logits, generator = array(-math.inf, 0, -math.inf, 0), Random(0)
    assert {pick(logits, Sampling(1.0), generator) for _ in range(50)} == {1, 3}


def test_nan_is_refused() -> None:
    with pytest.raises(ModelError, match="hold NaN"):
        pick(array(1, math.nan), Sampling(), Random(0))


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
