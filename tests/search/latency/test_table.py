"""Sums of layers against sums by hand."""

from __future__ import annotations

from itertools import product

import pytest

from eqnet import BudgetError, Format, InputError, LayerFormat
from eqnet.search.budget import Budget
from eqnet.search.cost import CostModel
from eqnet.search.latency.eqnet import OwnEngine
from eqnet.search.latency.table import LatencyTable
from eqnet.search.latency.timing import Timing
from eqnet.space import ElasticSpace, Layer
from tests.search.small import every_gene, space

A = Layer("a", "Linear", rows=4, cols=64, macs=256, inputs=64)
B = Layer("b", "Linear", rows=4, cols=4, macs=16, inputs=4)
KERNELS = OwnEngine(whole=False)
SPACE: ElasticSpace = space("w=2,8:channel:sym a=float edge=none", A, B)
NARROW, WIDE = (choice for choice in SPACE.sets[0].choices)
ALONE = {"a": {NARROW: 100, WIDE: 160}, "b": {NARROW: 50, WIDE: 40}}
FAST, SLOW = {"a": NARROW, "b": WIDE}, {"a": WIDE, "b": NARROW}  # alone: 140 and 210


def fitted(fast: int, slow: int, noise: int = 0) -> LatencyTable:
    ends = Timing(fast, fast, fast), Timing(slow, slow, slow + noise)
    return LatencyTable.fitted(ALONE, (FAST, SLOW), ends, KERNELS)


@pytest.mark.parametrize(
    ("slow", "noise", "added"),
    [
        (1070, 0, (60, 10)),  # as layers alone say
        (1080, 10, (60, 10)),  # so within the noise
        (1140, 5, (120, 20)),  # differences count twice in the network
        (1035, 5, (30, 5)),
        (980, 5, (0, 0)),  # the network tells no difference
    ],
)
def test_every_network_is_the_fastest_and_what_its_layers_add(slow: int, noise: int, added: tuple[int, int]) -> None:
    model = CostModel(SPACE, fitted(1000, slow, noise))
    totals = {
        (a, b): 1000 + (a is WIDE) * added[0] + (b is NARROW) * added[1] for a, b in product((NARROW, WIDE), repeat=2)
    }
    for genes in every_gene(SPACE):
        subnet = SPACE.subnet(genes)
        expected = totals[subnet["a"], subnet["b"]]
        assert model.total("latency", genes[None])[0] == expected
        assert model.cost(genes).latency == expected / 10**9
    assert model.minimum("latency") == 1000 / 10**9


def test_limits_are_whole_nanoseconds_and_the_nearest_feasible_budget_is_named() -> None:
    model = CostModel(SPACE, fitted(1_234_567, 1_234_637))
    assert model.limit(Budget.parse("1.2345679ms")) == 1_234_567
    model.check_feasible([Budget.parse("1.3ms")])
    with pytest.raises(
        BudgetError, match=r"the fastest network of this space has a latency of 1234\.57us; ask for at least 1234\.57us"
    ):
        model.check_feasible([Budget.parse("1200us")])
    model.check_feasible([Budget.parse("1234.57us")])


def test_budgets_of_size_and_latency_that_exclude_each_other_are_refused() -> None:
    model = CostModel(SPACE, fitted(1000, 1070))
    least = Budget.parse("2bit")  # makes b narrow, and that is what slows it
    model.check_feasible([Budget.parse("1.01us"), least])
    with pytest.raises(BudgetError, match=r"'1\.005us' cannot be met together with '2bit'.*ask for at least 1\.01us"):
        model.check_feasible([least, Budget.parse("1.005us")])


def test_a_correction_makes_a_network_as_slow_as_measured_and_leaves_the_fastest() -> None:
    table = fitted(1000, 1070)
    slow = {"a": WIDE, "b": NARROW}
    model = CostModel(SPACE, table.corrected(slow, SPACE.layers, 1101))
    assert model.cost(slow).latency == pytest.approx(1102e-9), "31 more, shared by two layers, rounded up"
    assert model.minimum("latency") == 1000e-9
    assert table.corrected(slow, SPACE.layers, 1070) == table
    assert table.corrected(FAST, SPACE.layers, 2000) == table


def test_at_last_only_the_kernels_of_the_fastest_network_are_within_a_bound() -> None:
    model = CostModel(SPACE, fitted(1000, 1070).at_most_fastest(5000))
    within = [genes for genes in every_gene(SPACE) if model.total("latency", genes[None])[0] <= 5000]
    assert [SPACE.subnet(genes) for genes in within] == [FAST]


def test_without_timings_there_is_no_latency() -> None:
    model = CostModel(SPACE)
    assert model.cost([0, 0]).latency is None
    with pytest.raises(BudgetError, match="no latency was measured"):
        model.limit(Budget.parse("5ms"))


def test_the_total_of_a_network_is_known_if_all_its_layers_were_timed() -> None:
    table = fitted(1000, 1070)
    assert table.total({"a": WIDE, "b": NARROW}, SPACE.layers) == 1070
    assert table.total({"a": WIDE, "b": LayerFormat(Format(3))}, SPACE.layers) is None


def test_formats_that_were_not_timed_are_refused_by_layer() -> None:
    other = LayerFormat(Format(3))
    assert KERNELS.stand_in(A, other) not in ALONE["a"]
    with pytest.raises(InputError, match="layer 'a' was not timed in int3:tensor"):
        fitted(1000, 1070).nanoseconds(A, other)
