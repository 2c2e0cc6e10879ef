"""Seeding the global generators for a while."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from eqnet.randomness import seeded


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_inside_they_follow_the_seeds_and_outside_nothing_happened() -> None:
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr,index]
    found = []
    for seeds in ((1, 2), (1, 2), (1, 3), (2,)):
        with seeded(*seeds):
            found.append(drawn())
    assert found[0] == found[1]
    assert len({x for values in found[1:] for x in values}) == 9
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_an_error_inside_restores_them_too() -> None:
    before = random.getstate()
    with pytest.raises(ZeroDivisionError), seeded(0):
        random.seed(1 // 0)
    assert random.getstate() == before
