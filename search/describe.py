"""From what a search found to its result and report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from eqnet.search.cost import NANOSECONDS, CostModel
from eqnet.search.found import Found, Key
from eqnet.search.problem import Problem
from eqnet.search.result import (
    Baseline,
    Cost,
    FrontPoint,
    LayerResult,
    MeasuredLatency,
    Predictor,
    Quality,
    ReportData,
    Scores,
    SearchResult,
    SearchSummary,
    StatedBudget,
    Uniform,
)
from eqnet.search.score import Score
from eqnet.search.subject import Subject
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet

QUALITY = "divergence"
"""What the search minimises: it ranks subnets with less noise than loss or accuracy on the same samples."""

_PACKAGES = ("deap", "eqnet", "numpy", "scipy", "torch")


def describe(
    subject: Subject,
    problem: Problem,
    found: Found,
    compared: Mapping[int, Subnet],
    seed: int,
    latency: MeasuredLatency | None = None,
) -> ReportData:
    """Measures the winner and the uniform networks that it is compared with, and writes all of it down.

    This is where test data is read, each sample once.
    """
    space = subject.space
    cost = _priced(problem, space)
    winner = space.subnet(found.winner)
    additive = found.predictor.additive
    assert additive is not None, "the last round fitted it"
    predicted = float(np.exp(found.predictor.predict(np.array([found.winner]))[0]))
    score, score_at = subject.score, _score_curve(subject.score, found)
    scores: dict[str, Any] = {}
    scores[score.name] = Scores(
        predicted=score_at(predicted),
        validation=score.of(found.validated[found.winner]),
        test=subject.standing(winner, "test").score,
        fp32_validation=subject.standing(None, "validation").score,
        fp32_test=subject.standing(None, "test").score,
        uniform={bits: _uniform(subject, subnet, cost(subnet)) for bits, subnet in compared.items()},
    )
    result = SearchResult(
        task=subject.name,
        budget=tuple(
            StatedBudget(b.text, b.metric, float(b.limit))
            for b in (*problem.budgets, *([problem.floor] if problem.floor else []))
        ),
        subnet=winner,
        cost=cost(winner),
        **scores,
        quality=Quality(QUALITY, predicted, found.validated[found.winner].divergence),
        predictor=Predictor(
            found.agreement.kendall_tau,
            found.agreement.pearson,
            found.agreement.rmse,
            found.agreement.held_out,
            len(found.measured),
            Baseline(found.baseline.kendall_tau, found.baseline.pearson, found.baseline.rmse),
        ),
        layers=_layers(space, found, winner),
        front=tuple(
            FrontPoint(
                subnet=space.subnet(key),
                cost=cost(key),
                predicted=float(np.exp(value)),
                validation=score.of(found.validated[key]) if key in found.validated else None,
                **{f"predicted_{score.name}": score_at(float(np.exp(value)))},
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
            (float(value), measured.divergence, score.of(measured))
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
        found = costs.cost(network)
        if table is None:
            return found
        nanoseconds = table.total(network if isinstance(network, Subnet) else space.subnet(network), space.layers)
        return replace(found, latency=None if nanoseconds is None else nanoseconds / NANOSECONDS)

    return cost


def _uniform(subject: Subject, subnet: Subnet, cost: Cost) -> Uniform:
    validation = subject.standing(subnet, "validation")
    return Uniform(validation.score, subject.standing(subnet, "test").score, cost, validation.divergence)


def _score_curve(score: Score, found: Found) -> Callable[[float], float]:
    """From a divergence to the score that goes with it: a curve through the measured subnets that never turns.

    It is fitted by isotonic regression.
    """
    from scipy.optimize import isotonic_regression

    measured = list(found.measured.values())
    divergences, places = np.unique([m.divergence for m in measured], return_inverse=True)
    counts = np.bincount(places)
    scores = np.bincount(places, [score.of(m) for m in measured]) / counts  # the mean of those of one divergence
    curve = isotonic_regression(scores, weights=counts, increasing=score.rises).x
    return lambda divergence: float(np.interp(divergence, divergences, curve))


def _layers(space: ElasticSpace, found: Found, winner: Subnet) -> tuple[LayerResult, ...]:
    sizes = CostModel(space).layer_bytes(winner)
    sensitivity = _sensitivity(space, found)
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
        for tied in space.sets
        for layer in tied.layers
    )


def _sensitivity(space: ElasticSpace, found: Found) -> dict[str, Mapping[int, float]]:
    """By tied set and width of its weights, the divergence that the additive model blames on them, in nats."""
    additive = found.predictor.additive
    assert additive is not None, "the last round fitted it"
    result: dict[str, Mapping[int, float]] = {}
    for tied, table in zip(space.sets, additive.weight_tables, strict=True):
        widths = np.array([choice.weight.bits for choice in tied.choices])
        result[tied.name] = {int(bits): float(table[widths == bits].min()) for bits in np.unique(widths)}
    return result
