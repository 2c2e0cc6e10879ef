"""Which subnets are measured first."""

from __future__ import annotations

import numpy as np
import pytest

from eqnet.search.sampling import sample_genes
from eqnet.space import Layer
from tests.search.small import every_gene, space

LAYERS = [Layer(f"layer{i}", "Linear", 8, 8, 64, 8) for i in range(12)]
SPACE = space("w=2-8:tensor,channel:sym,asym a=2-8:asym edge=8", *LAYERS, edges=["layer0"])


def test_every_choice_is_within_the_space_and_every_width_occurs() -> None:
    genes = sample_genes(SPACE, 200, np.random.default_rng(0))
    assert genes.shape == (200, 12)
    assert (genes >= 0).all()
    assert (genes < SPACE.sizes).all()
    for i, tied in enumerate(SPACE.sets):
        chosen = [tied.choices[g] for g in genes[:, i]]
        assert {c.weight.bits for c in chosen} == ({8} if i == 0 else set(range(2, 9)))
        assert len({(c.weight.granularity, c.weight.symmetric) for c in chosen}) == 4


def test_means_of_weights_and_of_inputs_cover_their_whole_range_and_go_their_own_ways() -> None:
    """Independent draws would almost all have a mean of 5 bits, and say nothing of what a budget of 3 needs."""
    genes = sample_genes(SPACE, 300, np.random.default_rng(0))
    choices = SPACE.sets[1].choices
    weight = np.array([[choices[g].weight.bits for g in row[1:]] for row in genes]).mean(1)
    inputs = np.array([[choices[g].activation.bits for g in row[1:]] for row in genes]).mean(1)  # type: ignore[union-attr]
    for means in (weight, inputs):
        assert np.quantile(means, 0.1) < 3
        assert np.quantile(means, 0.9) > 7
    assert abs(np.corrcoef(weight, inputs)[0, 1]) < 0.2


def test_same_generator_same_genes() -> None:
    first, second = (sample_genes(SPACE, 10, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, sample_genes(SPACE, 10, np.random.default_rng(2)))


@pytest.mark.parametrize("layers", [4, 6], ids=str)
def test_no_network_is_drawn_twice_so_that_none_held_out_was_learned(layers: int) -> None:
    small = space("w=2-8:channel:sym a=8:asym edge=none", *LAYERS[:layers])
    genes = sample_genes(small, 300, np.random.default_rng(0))
    assert len(np.unique(genes, axis=0)) == len(genes) == 300


def test_a_space_with_fewer_networks_gives_them_all() -> None:
    tiny = space("w=2,4,8:channel:sym a=8:asym edge=none", *LAYERS[:2])
    genes = sample_genes(tiny, 300, np.random.default_rng(0))
    assert sorted(map(tuple, genes)) == [tuple(row) for row in every_gene(tiny)]
