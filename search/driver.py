"""The search: measure, predict, search, verify, until nothing better turns up (EQ-Net, arXiv 2308.07650, sec. 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eqnet.search.budget import Budget
from eqnet.search.latency.clock import Clock
from eqnet.search.latency.engines import bounds_latency, check_engine
from eqnet.search.latency.meter import LatencyMeter
from eqnet.search.problem import Problem
from eqnet.search.result import ReportData
from eqnet.search.settings import Settings
from eqnet.search.stages import Report, Search
from eqnet.search.store import Store
from eqnet.search.subject import Subject
from eqnet.search.supernets import SupernetSubject
from eqnet.supernet import Supernet
from eqnet.target import Target
from eqnet.tasks.task import Task

__all__ = ["Settings", "search", "search_subject"]


def search(
    supernet: Supernet,
    task: Task,
    budgets: Sequence[Budget],
    settings: Settings | None = None,
    *,
    store: str | Path = ":memory:",
    target: Target | None = None,
    latency: LatencyMeter | None = None,
    report: Report | None = None,
) -> ReportData:
    """Finds the subnet of least divergence that meets every budget.

    Subnets are measured on validation data and a predictor (CQAP) learns from them; a genetic search, seeded with
    the exact optimum of the additive part of the predictor, proposes the best; these are measured, the predictor
    learns from them, and the search goes again while that finds something better. What is ranked and reported is
    measured. The same seed gives the same result, however much of it the store holds already.

    Where a latency is bounded, what is found is timed as it is deployed. If it takes longer than the budget, by more
    than its noise, the next best that was compared is taken; if all do, their predictions are raised and the search
    goes on, at last among networks that run the kernels of the fastest one. On the same timings the same seed gives
    the same result.

    Args:
        supernet: calibrated, and trained or not.
        task: its validation data is what the search sees; its test data is read once, at the end.
        budgets: upper bounds on costs, or a floor on accuracy (then the smallest subnet is sought that reaches it).
        settings: how hard to search.
        store: SQLite file that keeps every measurement.
        target: proposes nothing that this engine does not run.
        latency: of this supernet, with the target's engine; that of eqnet itself is timed, and what it takes kept in
            memory alone, if None and a budget needs it.
        report: told (stage, done, total).

    Raises:
        BudgetError: no subnet meets the budgets; the message has the nearest feasible value. Or a latency is bounded
            that cannot be measured.
        InputError: the target runs nothing of the space.
        RunError: the store is foreign, corrupt or cannot be written.
    """
    settings = settings or Settings()
    clock = _clock(supernet, task, budgets, target, latency, report)
    subject = SupernetSubject(supernet, task, settings.validation)
    return search_subject(subject, budgets, settings, store=store, target=target, clock=clock, report=report)


def search_subject(
    subject: Subject,
    budgets: Sequence[Budget],
    settings: Settings | None = None,
    *,
    store: str | Path = ":memory:",
    target: Target | None = None,
    clock: Clock | None = None,
    report: Report | None = None,
) -> ReportData:
    """``search`` for whatever has subnets that can be measured; see there.

    Args:
        subject: what is searched.
        budgets: upper bounds on costs, or a floor on accuracy.
        settings: how hard to search.
        store: SQLite file that keeps every measurement.
        target: proposes nothing that this engine does not run.
        clock: of the subject's latency, if a budget bounds it.
        report: told (stage, done, total).
    """
    problem = Problem.of(subject.space, budgets, target, clock.table if clock is not None else None)
    with Store.open(store, subject.fingerprint()) as opened:
        return Search(subject, problem, settings or Settings(), opened, clock, report or _silent).run()


def _clock(
    supernet: Supernet,
    task: Task,
    budgets: Sequence[Budget],
    target: Target | None,
    meter: LatencyMeter | None,
    report: Report | None,
) -> Clock | None:
    """That of the supernet as it is now; None if no budget bounds the latency."""
    if bounds_latency(budgets) is None:
        return None
    if meter is None:
        check_engine(budgets, target)
        meter = LatencyMeter(supernet, task.example_inputs(), report=report)
    meter.settle(supernet)
    return Clock(meter.table, partial(meter.network, supernet), meter.machine)


def _silent(stage: str, done: int, total: int) -> None:
    """Reports nothing."""
