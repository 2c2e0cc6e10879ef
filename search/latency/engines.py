"""Which targets' engines can be timed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from eqnet.errors import BudgetError
from eqnet.search.budget import Budget
from eqnet.search.latency.engine import Timed
from eqnet.search.latency.eqnet import EQNET
from eqnet.target import Target

TIMED: Mapping[str, Timed] = MappingProxyType({EQNET.target: EQNET})
"""Targets whose engine is part of eqnet, by name. Others are timed by those who can write what they read."""


def bounds_latency(budgets: Sequence[Budget]) -> Budget | None:
    """The budget that bounds latency, if there is one."""
    return next((budget for budget in budgets if budget.metric == "latency"), None)


def check_engine(budgets: Sequence[Budget], target: Target | None, timed: Mapping[str, Timed] = TIMED) -> None:
    """Makes sure that a latency, if one is bounded, can be measured.

    Args:
        budgets: of which one may bound it.
        target: whose latency it is.
        timed: targets that can be timed, by name.

    Raises:
        BudgetError: no engine was named, or one that cannot be timed.
        MissingPackageError: the engine is not installed.
    """
    budget = bounds_latency(budgets)
    if budget is None:
        return
    if target is not None and target.name in timed:
        timed[target.name].machine(1)
        return
    wrong = "no target was given" if target is None else f"that of the target '{target.name}' cannot be measured here"
    *first, last = sorted(timed)
    listed = f"{', '.join(first)} or {last}" if first else last
    raise BudgetError(
        f"budget '{budget}': latency is measured with the engine that is to run the network, and {wrong}; search for "
        f"the target {listed}: --target {next(iter(timed))}"
    )
