"""What is written down of a search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eqnet import Format, Granularity, Supernet, Task
from eqnet.search.budget import Budget
from eqnet.search.cost import CostModel
from eqnet.search.driver import Settings, search
from eqnet.search.measure import Judge
from eqnet.search.problem import Problem
from eqnet.search.result import ReportData
from eqnet.search.supernets import uniform_subnets
from eqnet.space import Layer
from tests.search.small import space

LAYERS = [Layer(name, "Linear", 8, 16, 128, 16) for name in ("first", "middle", "last")]


def uniform(text: str, *budgets: str, **options: Any) -> dict[int, Any]:
    return uniform_subnets(Problem.of(space(text, *LAYERS, **options), [Budget.parse(b) for b in budgets]))


def test_uniform_networks_have_one_width_and_leave_free_inputs_as_wide_as_they_go() -> None:
    found = uniform("w=2-8:tensor,channel:sym,asym a=2-8:asym edge=none", "4bit")
    assert list(found) == [2, 3, 4, 5, 6, 7, 8]
    for bits, subnet in found.items():
        assert {f.weight for f in subnet.values()} == {Format(bits, True, Granularity.CHANNEL)}
        assert {f.activation for f in subnet.values()} == {Format(8, False)}


@pytest.mark.parametrize("budget", ["a4bit", "50kBOPs"])
def test_inputs_are_as_wide_as_weights_where_a_budget_bounds_them(budget: str) -> None:
    for bits, subnet in uniform("w=2-8:channel:sym a=2-8:asym edge=none", budget).items():
        assert {f.activation for f in subnet.values()} == {Format(bits, False)}


def test_only_widths_that_every_inner_layer_has_are_compared() -> None:
    found = uniform("w=2,4:channel:sym a=8:asym edge=8", edges=["first", "last"])
    assert list(found) == [2, 4]
    assert [found[2][name].weight.bits for name in ("first", "middle", "last")] == [8, 2, 8]


@pytest.fixture(scope="module")
def data(supernet: Supernet, task: Task) -> ReportData:
    return search(supernet, task, [Budget.parse("4bit")], Settings(samples=30, validation=64, rounds=2, verified=4))


def test_accuracies_in_floating_point_are_the_given_models(data: ReportData, task: Task) -> None:
    for found, dataset in (
        (data.result.accuracy.fp32_validation, task.validation),
        (data.result.accuracy.fp32_test, task.test),
    ):
        x, y = dataset.tensors  # type: ignore[attr-defined]
        assert found == pytest.approx((task.model(x).argmax(1) == y).double().mean().item())


def test_uniform_networks_are_measured_and_priced(data: ReportData, supernet: Supernet, task: Task) -> None:
    assert list(data.result.accuracy.uniform) == [2, 3, 4, 5, 6, 7, 8]
    judges = Judge(supernet, task, task.validation), Judge(supernet, task, task.test)
    for bits in (2, 5):
        found = data.result.accuracy.uniform[bits]
        subnet = uniform_subnets(Problem.of(supernet.space, [Budget.parse("4bit")]))[bits]
        assert (found.validation, found.test) == pytest.approx(
            tuple(judge.measure(subnet).accuracy for judge in judges)
        )
        assert found.cost == CostModel(supernet.space).cost(subnet)
        assert found.cost.code_bits == bits


def test_layers_are_listed_with_their_bytes_and_fewer_nats_at_every_width(data: ReportData) -> None:
    layers = data.result.layers
    assert [(layer.name, layer.kind) for layer in layers] == [(str(i), "Linear") for i in (0, 2, 4, 6)]
    assert sum(layer.bytes for layer in layers) == data.result.cost.bytes
    for layer in layers:
        assert (layer.weight_format, layer.activation_format) == (
            data.result.subnet[layer.name].weight,
            data.result.subnet[layer.name].activation,
        )
        nats = list(layer.sensitivity.values())
        assert list(layer.sensitivity) == [2, 3, 4, 5, 6, 7, 8]
        assert nats == sorted(nats, reverse=True)
        assert nats[-1] >= 0


def test_the_report_shows_every_measurement_and_the_held_out_ones(data: ReportData) -> None:
    result = data.result
    assert result.predictor.measured == len(data.measured) > 30
    assert result.predictor.held_out == len(data.held_out_measured) == len(data.held_out_predicted) == 10
    error = np.asarray(data.held_out_predicted) - np.asarray(data.held_out_measured)
    assert result.predictor.rmse == pytest.approx(np.sqrt(np.mean(error**2)))
    divergences = [divergence for _, divergence, _ in data.measured]
    assert np.exp(data.held_out_measured).tolist() == pytest.approx(divergences[20:30])
    assert len(data.convergence) == len(data.optima) == result.search.rounds
    assert result.search.best == pytest.approx(min(round_[-1] for round_ in data.convergence))
    assert all(round_[-1] <= optimum * (1 + 1e-9) for round_, optimum in zip(data.convergence, data.optima))


def test_the_predicted_accuracy_is_among_those_measured(data: ReportData) -> None:
    accuracies = [accuracy for *_, accuracy in data.measured]
    assert data.result.accuracy.predicted is not None
    assert min(accuracies) <= data.result.accuracy.predicted <= max(accuracies)
    front = [point.predicted_accuracy for point in data.result.front]
    assert min(accuracies) <= front[0] < front[-1] <= max(accuracies)
    assert front == sorted(front), "along the front the divergence falls"


def test_packages_and_their_versions_are_named(data: ReportData) -> None:
    assert list(data.result.versions) == ["python", "deap", "eqnet", "numpy", "scipy", "torch"]
    assert data.result.versions["numpy"] == np.__version__
