"""Which targets' engines can be timed here."""

from __future__ import annotations

from collections.abc import Sequence

from eqnet.errors import BudgetError
from eqnet.search.budget import Budget
from eqnet.target import Target

TIMED = ("eqnet",)
"""Targets whose engine is part of eqnet, by name."""


def bounds_latency(budgets: Sequence[Budget]) -> Budget | None:
    """The budget that bounds latency, if there is one."""
    return next((budget for budget in budgets if budget.metric == "latency"), None)


def check_engine(budgets: Sequence[Budget], target: Target | None) -> None:
    """Makes sure that a latency, if one is bounded, can be measured.

    Raises:
        BudgetError: no engine was named, or one that eqnet does not have.
    """
    budget = bounds_latency(budgets)
    if budget is None or (target is not None and target.name in TIMED):
        return
    wrong = "no target was given" if target is None else f"the engine of the target '{target.name}' cannot be timed"
    raise BudgetError(
        f"budget '{budget}': latency is measured with the engine that is to run the network, and {wrong}; "
        f"search for the target {' or '.join(TIMED)}: --target {TIMED[0]}"
    )
