"""Which network of a run is meant: what the search found, one of a file, or one of a uniform width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from eqnet.cli.console import Report
from eqnet.cli.session import accelerator_for
from eqnet.errors import InputError
from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity, LayerFormat
from eqnet.run import Run
from eqnet.search.result import SearchResult
from eqnet.subnet import Subnet

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Chosen:
    """A run, trained, and one of its networks.

    Attributes:
        run: open.
        subnet: one of its supernet's.
        accuracy: what the search measured of it, by part of the data; empty if the search did not judge it.
        budgets: what it was searched for; empty likewise.
    """

    run: Run
    subnet: Subnet
    accuracy: Mapping[str, float] = field(default_factory=dict)
    budgets: tuple[str, ...] = ()


def subnet_options(command: F) -> F:
    """``--subnet`` and ``--uniform``."""
    uniform = click.option(
        "--uniform", type=click.IntRange(MIN_BITS, MAX_BITS), help="Instead, the network with this width throughout."
    )
    file = click.option(
        "--subnet", type=click.Path(path_type=Path), help="A subnet as JSON.  [default: what the search found]"
    )
    return file(uniform(command))


@contextmanager
def chosen(folder: Path, subnet: Path | None, uniform: int | None, report: Report) -> Iterator[Chosen]:
    """The run in ``folder``, and its network that the options of ``subnet_options`` name.

    Raises:
        InputError: there is no such network; the message names the file.
        RunError: the folder holds no run.
    """
    found = check(folder, subnet, uniform)
    with Run.reopen(folder) as run:
        run.train(accelerator_for("auto", run.plan.precision), report)
        if found is None:
            width = int(uniform or MAX_BITS)
            found = run.supernet.space.nearest(
                LayerFormat(Format(width, True, Granularity.CHANNEL), Format(width, False))
            )
        try:
            run.supernet.space.genes(found)
        except InputError as e:
            raise InputError(f"{subnet or folder / 'subnet.json'}: {e}") from e
        yield Chosen(run, found, *_judged(folder, found))


def check(folder: Path, subnet: Path | None, uniform: int | None) -> Subnet | None:
    """Reads the subnet that is meant before any work; None if it is a uniform one."""
    if subnet is not None and uniform is not None:
        raise click.UsageError("give either --subnet or --uniform")
    if uniform is not None:
        return None
    path = subnet or folder / "subnet.json"
    if subnet is None and not path.exists():
        raise InputError(f"{folder}: holds no search result; run eqnet search --out {folder} first, or give --uniform")
    return Subnet.load(path)


def result_of(folder: Path, subnet: Subnet) -> SearchResult | None:
    """What the search of a run found, if ``subnet`` is that."""
    path = folder / "result.json"
    result = SearchResult.load(path) if path.exists() else None
    return result if result is not None and result.subnet == subnet else None


def _judged(folder: Path, subnet: Subnet) -> tuple[dict[str, float], tuple[str, ...]]:
    """Accuracies and budgets of the search, if ``subnet`` is what it found."""
    result = result_of(folder, subnet)
    if result is None:
        return {}, ()
    measured = {"test": result.scores.test, "validation": result.scores.validation}
    accuracy = {part: value for part, value in measured.items() if value is not None}
    return accuracy, tuple(budget.text for budget in result.budget)
