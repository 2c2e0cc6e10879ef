"""The whole search on a small network."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from eqnet import BudgetError, InputError, Supernet, Task
from eqnet.export.targets import load_target
from eqnet.search.budget import Budget
from eqnet.search.cost import CostModel
from eqnet.search.driver import Settings, search
from eqnet.search.latency.eqnet import OwnEngine
from eqnet.search.latency.table import LatencyTable
from eqnet.search.latency.timing import Timing
from eqnet.search.measure import Judge
from eqnet.search.result import SearchResult
from tests.search.small import small_supernet

QUICK = Settings(samples=30, validation=64, rounds=2, verified=4)


class CountedReads(Dataset[tuple[Tensor, Tensor]]):
    """Notes each sample that is read."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.reads.append(index)
        return self.data[index]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def both(task: Task) -> Supernet:
    """Widths of weights and of inputs can be chosen."""
    return small_supernet(task, "w=2-8:channel:sym a=2-8:asym edge=none")


def found(supernet: Supernet, task: Task, *budgets: str, **options: Any) -> SearchResult:
    return search(supernet, task, [Budget.parse(b) for b in budgets], QUICK, **options).result


def test_what_is_reported_is_measured(supernet: Supernet, task: Task) -> None:
    result = found(supernet, task, "4bit")
    validation, test = (Judge(supernet, task, data).measure(result.subnet) for data in (task.validation, task.test))
    assert result.accuracy.validation == validation.accuracy
    assert result.quality.measured == validation.divergence
    assert result.accuracy.test == test.accuracy
    assert result.cost == CostModel(supernet.space).cost(result.subnet)


def test_no_uniform_network_beats_it_within_the_budget(supernet: Supernet, task: Task) -> None:
    judge = Judge(supernet, task, task.validation)
    for bits in (3, 5):
        result = found(supernet, task, f"{bits}bit")
        uniform = [g for g in supernet.space.sets[0].choices if g.weight.bits == bits]
        best = min(judge.measure(supernet.space.nearest(choice)).divergence for choice in uniform)
        assert result.quality.measured <= best


def test_uniform_networks_that_are_worse_beyond_doubt_are_not_measured(supernet: Supernet, task: Task) -> None:
    def measured(doubt: float) -> int:
        settings = replace(QUICK, doubt=doubt)
        return search(supernet, task, [Budget.parse("3bit")], settings).result.predictor.measured

    assert measured(-np.inf) < measured(np.inf)


def spent(result: SearchResult) -> dict[str, Fraction]:
    """Each metric as an exact fraction, from the formats and the sizes of the four layers."""
    weights = [layer.weights for layer in result.layers]
    assert weights == [2 * 16, 16 * 16, 16 * 12, 12 * 4]
    inputs = [2, 16, 16, 12]
    bits = [layer.weight_format.bits for layer in result.layers]
    input_bits = [layer.activation_format.bits for layer in result.layers if layer.activation_format is not None]
    biases_and_inputs = 4 * (16 + 16 + 12 + 4) + 4 * 5
    return {
        "code_bits": Fraction(sum(n * b for n, b in zip(weights, bits)), sum(weights)),
        "bpw": Fraction(8 * (result.cost.bytes - biases_and_inputs), sum(weights)),
        "bytes": Fraction(result.cost.bytes),
        "bops": Fraction(sum(n * b * i for n, b, i in zip(weights, bits, input_bits))),
        "activation_bits": Fraction(sum(n * b for n, b in zip(inputs, input_bits)), sum(inputs)),
    }


@pytest.mark.parametrize("budget", ["4bit", "3.3bit", "6bpw", "700B", "0.6KiB", "20kBOPs", "a5.3bit"])
def test_budgets_are_met_exactly_and_used_up(both: Supernet, task: Task, budget: str) -> None:
    result, parsed = found(both, task, budget), Budget.parse(budget)
    value = spent(result)[parsed.metric]
    assert parsed.limit * Fraction(99, 100) <= value <= parsed.limit
    assert getattr(result.cost, parsed.metric) == pytest.approx(float(value), rel=1e-12)


def test_several_budgets_are_met_at_once(both: Supernet, task: Task) -> None:
    budgets = ["4.5bit", "a6bit", "640B", "16kBOPs"]
    result = found(both, task, *budgets)
    assert [stated.text for stated in result.budget] == budgets
    for budget in map(Budget.parse, budgets):
        assert spent(result)[budget.metric] <= budget.limit


def test_same_seed_same_result_from_an_empty_and_from_a_full_store(
    supernet: Supernet, task: Task, tmp_path: Path
) -> None:
    results = [found(supernet, task, "4bit", store=tmp_path / "store.sqlite").to_json() for _ in range(2)]
    assert results[0] == results[1]
    assert results[0] == found(supernet, task, "4bit").to_json()
    other = search(supernet, task, [Budget.parse("4bit")], replace(QUICK, seed=1)).result.to_json()
    assert other != results[0]


def test_another_budget_measures_only_its_own_proposals(supernet: Supernet, task: Task, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    path = tmp_path / "store.sqlite"
    found(supernet, task, "4bit", store=path)
    kept = _rows(path)
    found(supernet, task, "3bit", store=path, report=lambda *stage: reports.append(stage))
    assert QUICK.samples <= kept <= _rows(path) <= kept + QUICK.rounds * (QUICK.verified + 1)
    assert ("Measuring subnets", QUICK.samples, QUICK.samples) in reports


def _rows(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute("SELECT COUNT(*) FROM measurements").fetchone()[0])


def test_the_callers_random_state_stays_as_it_was(supernet: Supernet, task: Task) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr,index]
    found(supernet, task, "4bit")
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # type: ignore[index]
    assert states[2] == random.getstate()


def test_test_data_is_read_once_after_everything_was_chosen(supernet: Supernet, task: Task) -> None:
    test = CountedReads(task.test)
    at_stage: dict[str, int] = {}
    watched = replace(task, test=test)
    found(supernet, watched, "4bit", report=lambda stage, done, total: at_stage.update({stage: len(test.reads)}))
    assert set(at_stage.values()) == {0}
    assert test.reads == list(range(128))


def test_a_floor_on_accuracy_gives_a_smaller_network_than_the_best(supernet: Supernet, task: Task) -> None:
    low, high = found(supernet, task, "80%acc"), found(supernet, task, "7bit")
    assert low.accuracy.validation >= 0.80
    assert low.cost.bytes < high.cost.bytes
    with pytest.raises(BudgetError, match=r"ask for at most \d"):
        found(supernet, task, "100%acc", "2bit")


def test_the_pareto_front_falls(supernet: Supernet, task: Task) -> None:
    result = search(supernet, task, [Budget.parse("4bit")], replace(QUICK, pareto=4)).result
    costs = [point.cost.code_bits for point in result.front]
    assert costs == sorted(costs)
    predicted = [point.predicted for point in result.front]
    assert predicted == sorted(predicted, reverse=True)
    assert sum(point.validation is not None for point in result.front) >= 4


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InputError, match="19 samples are too few"):
        Settings(samples=19)


def test_a_store_of_another_network_is_refused(supernet: Supernet, task: Task, tmp_path: Path) -> None:
    found(supernet, task, "4bit", store=tmp_path / "store.sqlite")
    other = small_supernet(task, "w=2-8:channel:sym a=8:asym edge=none")
    with pytest.raises(InputError, match=r"store\.sqlite"):
        found(other, task, "4bit", store=tmp_path / "store.sqlite")


NOISE = 4
"""Nanoseconds, of every made-up timing."""


def nanoseconds(subnet: Any) -> int:
    """Made up: a microsecond, and ten nanoseconds for each bit beyond 2 of each layer's weight."""
    return 1000 + 10 * sum(fmt.weight.bits - 2 for fmt in subnet.values())


class MadeUpMeter:
    """Predicts ``nanoseconds``; measures what it is told."""

    machine = "made up"

    def __init__(self, supernet: Supernet, measured: Any) -> None:
        space, kernels = supernet.space, OwnEngine(whole=False)
        stands = {
            layer.name: list(dict.fromkeys(kernels.stand_in(layer, choice) for choice in tied.choices))
            for tied in space.sets
            for layer in tied.layers
        }
        added = {name: {fmt: 10 * (fmt.weight.bits - 2) for fmt in formats} for name, formats in stands.items()}
        fast = {name: next(fmt for fmt in times if not times[fmt]) for name, times in added.items()}
        self.table = LatencyTable(1000, fast, added, kernels)
        self.measured, self.timed, self.settled = measured, 0, False

    def settle(self, _: Supernet) -> None:
        self.settled = True

    def network(self, _: Supernet, subnet: Any) -> Timing:
        self.timed += 1
        median = self.measured(subnet)
        return Timing(median, median - NOISE // 2, median + NOISE // 2)


def timed(supernet: Supernet, task: Task, measured: Any, *budgets: str) -> SearchResult:
    meter: Any = MadeUpMeter(supernet, measured)
    result = found(supernet, task, *budgets, latency=meter, target=load_target("eqnet"))
    assert meter.settled
    return result


def test_a_latency_that_was_predicted_right_is_met_and_reported(supernet: Supernet, task: Task) -> None:
    result = timed(supernet, task, nanoseconds, "1.1us")
    assert result.latency is not None
    assert result.latency.predicted == result.latency.measured == nanoseconds(result.subnet) / 1e9 <= 1.1e-6
    assert result.cost.latency == result.latency.predicted
    assert round(1e9 * (result.latency.high - result.latency.low)) == NOISE
    assert SearchResult.from_json(result.to_json()) == result
    loose = timed(supernet, task, nanoseconds, "1s")
    assert loose.quality.measured < result.quality.measured


def test_networks_that_turn_out_slower_are_given_up_until_one_is_fast_enough(supernet: Supernet, task: Task) -> None:
    def measured(subnet: Any) -> int:
        return 1000 + 2 * (nanoseconds(subnet) - 1000)

    result = timed(supernet, task, measured, "1.1us", "8bit")
    assert result.latency is not None
    assert result.latency.measured == measured(result.subnet) / 1e9 <= (1100 + NOISE) / 1e9
    assert nanoseconds(result.subnet) > 1000, "it is not all as narrow as can be"


def test_in_the_end_the_kernels_of_the_fastest_network_are_taken(supernet: Supernet, task: Task) -> None:
    def measured(subnet: Any) -> int:
        return 1000 if nanoseconds(subnet) == 1000 else 5000

    result = timed(supernet, task, measured, "1.1us")
    assert {fmt.weight.bits for fmt in result.subnet.values()} == {2}


def test_a_latency_that_is_never_met_ends_with_what_was_measured(supernet: Supernet, task: Task) -> None:
    with pytest.raises(BudgetError, match=r"budget '1\.1us' was not met: .* takes 7us .*; ask for at least that"):
        timed(supernet, task, lambda _: 7000, "1.1us")


def test_the_smallest_network_that_is_accurate_and_fast_enough(supernet: Supernet, task: Task) -> None:
    result = timed(supernet, task, nanoseconds, "4bit", "1.1us", "60%acc")
    assert result.latency is not None
    assert result.latency.measured <= 1.1e-6
    assert result.accuracy.validation >= 0.6
    assert result.cost.code_bits <= 4


def test_a_latency_needs_a_target_whose_engine_is_there(supernet: Supernet, task: Task) -> None:
    for target in (None, load_target("onnxruntime")):
        with pytest.raises(BudgetError, match=r"budget '5ms': latency is measured with the engine.*--target eqnet"):
            found(supernet, task, "5ms", target=target)


def test_without_a_budget_of_latency_nothing_is_timed_and_nothing_said(supernet: Supernet, task: Task) -> None:
    meter: Any = MadeUpMeter(supernet, nanoseconds)
    result = found(supernet, task, "4bit", latency=meter, target=load_target("eqnet"))
    assert meter.timed == 0
    assert result == found(supernet, task, "4bit")
    assert "latency" not in result.to_json()
    assert "latency" not in result.to_json()["cost"]
