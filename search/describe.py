"""From what a search found to its result and report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata

import numpy as np

from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity, LayerFormat
from eqnet.search.cost import NANOSECONDS, CostModel
from eqnet.search.found import Found, Key
from eqnet.search.measure import Judge
from eqnet.search.problem import Problem
from eqnet.search.result import (
    Accuracy,
    Baseline,
    Cost,
    FrontPoint,
    LayerResult,
    MeasuredLatency,
    Predictor,
    Quality,
    ReportData,
    SearchResult,
    SearchSummary,
    StatedBudget,
    Uniform,
)
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet
from eqnet.supernet import Supernet
from eqnet.tasks.task import Task

QUALITY = "divergence"
"""What the search minimises: it ranks subnets with less noise than loss or accuracy on the same samples."""

_PACKAGES = ("deap", "eqnet", "numpy", "scipy", "torch")


def describe(
    supernet: Supernet,
    task: Task,
    problem: Problem,
    found: Found,
    validation: Judge,
    compared: Mapping[int, Subnet],
    seed: int,
    latency: MeasuredLatency | None = None,
) -> ReportData:
    """Measures the winner and the uniform networks that it is compared with, and writes all of it down.

    This is where test data is read, each sample once.
    """
    space = supernet.space
    cost = _priced(problem, space)
    winner = space.subnet(found.winner)
    test = Judge(supernet, task, task.test)
    uniform = {
        bits: Uniform(
            validation=validation.accuracy(subnet),
            test=test.accuracy(subnet),
            cost=cost(subnet),
        )
        for bits, subnet in compared.items()
    }
    additive = found.predictor.additive
    assert additive is not None, "the last round fitted it"
    predicted = float(np.exp(found.predictor.predict(np.array([found.winner]))[0]))
    accuracy_at = _accuracy_curve(found)
    result = SearchResult(
        task=task.name,
        budget=tuple(
            StatedBudget(b.text, b.metric, float(b.limit))
            for b in (*problem.budgets, *([problem.floor] if problem.floor else []))
        ),
        subnet=winner,
        cost=cost(winner),
        accuracy=Accuracy(
            predicted=accuracy_at(predicted),
            validation=found.validated[found.winner].accuracy,
            test=test.accuracy(winner),
            fp32_validation=validation.accuracy_of(task.model),
            fp32_test=test.accuracy_of(task.model),
            uniform=uniform,
        ),
        quality=Quality(QUALITY, predicted, found.validated[found.winner].divergence),
        predictor=Predictor(
            found.agreement.kendall_tau,
            found.agreement.pearson,
            found.agreement.rmse,
            found.agreement.held_out,
            len(found.measured),
            Baseline(found.baseline.kendall_tau, found.baseline.pearson, found.baseline.rmse),
        ),
        layers=_layers(supernet, found, winner),
        front=tuple(
            FrontPoint(
                subnet=space.subnet(key),
                cost=cost(key),
                predicted=float(np.exp(value)),
                predicted_accuracy=accuracy_at(float(np.exp(value))),
                validation=found.validated[key].accuracy if key in found.validated else None,
            )
            for key, value in found.front
        ),
        search=SearchSummary(
            generations=sum(len(history) for history in found.convergence),
            exact_optimum=float(np.exp(found.optima[-1])) if found.optima else None,
            best=float(np.exp(min(h[-1] for h in found.convergence))) if found.convergence else predicted,
            rounds=max(len(found.convergence), 1),
        ),
        latency=latency,
        seed=seed,
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
    )
    return ReportData(
        result=result,
        metric=problem.metric,
        measured=[
            (float(value), measured.divergence, measured.accuracy)
            for key, measured in found.measured.items()
            if (value := getattr(cost(key), problem.metric)) is not None
        ],
        held_out_predicted=found.held_out[0],
        held_out_measured=found.held_out[1],
        held_out_unit=f"ln {QUALITY}",
        convergence=[np.exp(history) for history in found.convergence],
        optima=[float(np.exp(value)) for value in found.optima],
    )


def _priced(problem: Problem, space: ElasticSpace) -> Callable[[Subnet | Key], Cost]:
    """What subnets of the supernet's whole space cost; latencies are known of those alone that the target runs."""
    costs, table = CostModel(space), problem.costs.latency

    def cost(network: Subnet | Key) -> Cost:
        subnet = network if isinstance(network, Subnet) else space.subnet(network)
        nanoseconds = table.total(subnet, space.layers) if table is not None else None
        return replace(costs.cost(subnet), latency=None if nanoseconds is None else nanoseconds / NANOSECONDS)

    return cost


def uniform_subnets(problem: Problem) -> dict[int, Subnet]:
    """The network with one width throughout, for each width that the space has.

    Weights are symmetric and per channel, inputs asymmetric. Inputs have the same width as the weights if a budget
    bounds them, and the widest otherwise, as the search itself then leaves them.
    """
    bounded = {b.metric for b in problem.budgets} & {"activation_bits", "bops"}
    subnets: dict[int, Subnet] = {}
    for bits in range(MIN_BITS, MAX_BITS + 1):
        wanted = LayerFormat(Format(bits, True, Granularity.CHANNEL), Format(bits if bounded else MAX_BITS, False))
        subnet = problem.space.nearest(wanted)
        free = [tied for tied in problem.space.sets if not tied.edge]
        if all(subnet[tied.name].weight.bits == bits for tied in free):
            subnets[bits] = subnet
    return subnets


def _accuracy_curve(found: Found) -> Callable[[float], float]:
    """From a divergence to the accuracy that goes with it: a falling curve through the measured subnets.

    It is fitted by isotonic regression.
    """
    from sklearn.isotonic import IsotonicRegression

    measured = list(found.measured.values())
    curve = IsotonicRegression(increasing=False, out_of_bounds="clip")
    curve.fit([m.divergence for m in measured], [m.accuracy for m in measured])
    return lambda divergence: float(curve.predict([divergence])[0])


def _layers(supernet: Supernet, found: Found, winner: Subnet) -> tuple[LayerResult, ...]:
    sizes = CostModel(supernet.space).layer_bytes(winner)
    sensitivity = _sensitivity(supernet, found)
    return tuple(
        LayerResult(
            name=layer.name,
            kind=layer.kind,
            weights=layer.weights,
            weight_format=winner[layer.name].weight,
            activation_format=winner[layer.name].activation,
            bytes=sizes[layer.name],
            sensitivity=sensitivity[tied.name],
        )
        for tied in supernet.space.sets
        for layer in tied.layers
    )


def _sensitivity(supernet: Supernet, found: Found) -> dict[str, Mapping[int, float]]:
    """By tied set and width of its weights, the divergence that the additive model blames on them, in nats."""
    additive = found.predictor.additive
    assert additive is not None, "the last round fitted it"
    result: dict[str, Mapping[int, float]] = {}
    for tied, table in zip(supernet.space.sets, additive.weight_tables, strict=True):
        widths = np.array([choice.weight.bits for choice in tied.choices])
        result[tied.name] = {int(bits): float(table[widths == bits].min()) for bits in np.unique(widths)}
    return result
