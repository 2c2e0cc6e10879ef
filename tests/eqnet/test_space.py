"""The elastic space: genes, draws, and the nearest subnet."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from eqnet import Format, Granularity, InputError, LayerFormat
from eqnet.space import ElasticSpace, Layer
from tests.search.small import every_gene, space

LAYERS = [Layer(name, "Linear", 4, 6, 24, 6) for name in ("first", "middle", "last")]
SPACE = space("w=2-8:tensor,channel:sym,asym a=2-8:asym edge=8", *LAYERS, edges=["first", "last"])


def test_genes_and_subnets_are_two_spellings_of_one_thing() -> None:
    small = space("w=2,4:channel:sym,asym a=4,8:asym edge=none", *LAYERS)
    subnets = [small.subnet(genes) for genes in every_gene(small)]
    assert len(set(subnets)) == len(subnets) == 8**3
    assert [small.genes(subnet).tolist() for subnet in subnets] == every_gene(small).tolist()


@pytest.mark.parametrize("bits", ["highest", "lowest"])
def test_extreme_draws_fix_the_widths_and_draw_the_rest(bits: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [SPACE.draw(rng, bits)["middle"] for _ in range(200)]
    width = {"highest": 8, "lowest": 2}[bits]
    assert {fmt.weight.bits for fmt in drawn} == {width}
    assert {fmt.activation.bits for fmt in drawn if fmt.activation} == {width}
    assert len({(fmt.weight.granularity, fmt.weight.symmetric) for fmt in drawn}) == 4


def test_draws_are_even_and_edges_keep_their_width() -> None:
    rng = np.random.default_rng(0)
    drawn = [SPACE.draw(rng) for _ in range(700)]
    counts = Counter(subnet["middle"].weight.bits for subnet in drawn)
    assert set(counts) == set(range(2, 9))
    assert all(60 < count < 140 for count in counts.values())
    assert {subnet["first"].weight.bits for subnet in drawn} == {8}


def test_the_same_seed_draws_the_same_subnets() -> None:
    first, second, other = (np.random.default_rng(seed) for seed in (5, 5, 6))
    drawn = [[SPACE.draw(rng) for _ in range(10)] for rng in (first, second, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_nearest_subnet_is_uniform_but_for_the_edges() -> None:
    wanted = LayerFormat(Format(3, False, Granularity.CHANNEL), Format(5, False))
    nearest = SPACE.nearest(wanted)
    assert nearest["middle"] == wanted
    assert nearest["first"] == LayerFormat(Format(8, False, Granularity.CHANNEL), Format(8, False))
    grouped = LayerFormat(Format(3, True, Granularity.GROUP, 32), Format(5, False))
    assert SPACE.nearest(grouped)["middle"].weight.bits == 3, "the width comes before the granularity"


def test_a_restricted_space_keeps_what_is_allowed_and_names_what_has_nothing_left() -> None:
    def odd(layer: Layer, fmt: LayerFormat) -> str | None:
        return f"{fmt.weight.bits} bits are even" if fmt.weight.bits % 2 == 0 and layer.name == "middle" else None

    left = SPACE.restrict(odd)
    assert {choice.weight.bits for choice in left.sets[1].choices} == {3, 5, 7}
    assert left.sets[0] == SPACE.sets[0]
    with pytest.raises(InputError, match=r"layer 'first': none of its 4 formats is allowed \(never\); widen the space"):
        SPACE.restrict(lambda layer, fmt: "never")


def test_the_fingerprint_changes_with_everything_in_the_space() -> None:
    def altered() -> list[ElasticSpace]:
        first = SPACE.sets[0]
        wider = replace(first, layers=(replace(first.layers[0], rows=5),))
        return [
            SPACE,
            replace(SPACE, scale_bits=16),
            replace(SPACE, float_bytes=1),
            replace(SPACE, weight_only=frozenset({"first"})),
            replace(SPACE, sets=(wider, *SPACE.sets[1:])),
            replace(SPACE, sets=(replace(first, choices=first.choices[1:]), *SPACE.sets[1:])),
            replace(SPACE, sets=SPACE.sets[::-1]),
        ]

    assert len({made.fingerprint() for made in altered()}) == 7
    assert [made.fingerprint() for made in altered()] == [made.fingerprint() for made in altered()]
