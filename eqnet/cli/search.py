"""``eqnet search``: find the best mixed precision under a budget."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from eqnet.cli.console import json_option, kilobytes, megabytes, print_json, print_table, progress
from eqnet.cli.engines import ENGINES
from eqnet.cli.language import SAMPLES, method_option, refuse, search_model, text_option
from eqnet.cli.options import run_options
from eqnet.cli.session import accelerator_for, opened
from eqnet.errors import MissingPackageError
from eqnet.export.targets import load_target
from eqnet.search.budget import Budget, parse_budgets
from eqnet.search.driver import Settings
from eqnet.search.driver import search as find
from eqnet.search.latency.engines import bounds_latency, check_engine
from eqnet.search.latency.meter import LatencyMeter
from eqnet.search.problem import Problem
from eqnet.search.report import write_report
from eqnet.search.report.scores import SCORE_TEXTS
from eqnet.search.result import Cost, ReportData, SearchResult
from eqnet.target import Target

PARETO_POINTS = 12


@click.command()
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="BUDGET",
    help="4bit (mean code bits), 4.25bpw (scales counted), 12MB, 2GBOPs, 5ms (for one input, on the --target), "
    "a4bit (mean activation bits) or 90%acc (least accuracy). Repeat it to meet several.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.gguf",
    help="Instead of a task: a language model of transformers in floating point.",
)
@method_option("With --model")
@text_option("With --model", " to fit codes to and to judge on")
@click.option("--target", metavar="NAME|FILE.toml", help="Propose only what this engine runs; see eqnet targets.")
@click.option("--pareto", is_flag=True, help=f"Also measure {PARETO_POINTS} networks along the whole Pareto front.")
@click.option(
    "--samples",
    type=click.IntRange(min=20),
    help=f"Subnets measured before predicting.  [default: {Settings().samples}; of language models {SAMPLES}]",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Of the network whose latency is measured.  [default: PyTorch's own]"
)
@run_options
@json_option
def search(
    budgets: tuple[str, ...],
    model: Path | None,
    method: str | None,
    text: tuple[Path, ...],
    target: str | None,
    pareto: bool,
    samples: int | None,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the best mixed precision under a budget.

    Trains the task's supernet (or goes on with it), measures sampled subnets, learns to predict the others, searches
    and verifies. With --model, the weights of a language model: its divergence from the model in floating point is
    what counts. What a run folder holds already is used again: for another budget only the search runs. Under
    torchrun all processes train; the first one searches.
    """
    parsed = parse_budgets(budgets)
    if not parsed and not pareto:
        raise click.UsageError("give at least one --budget, such as --budget 4bit, or --pareto")
    engine = load_target(target) if target is not None else None
    points = PARETO_POINTS if pareto else 0
    if model is not None:
        refuse(("task", "epochs", "device", "precision", "threads"), "is of tasks; leave it out with --model")
        with progress(quiet=as_json) as report:
            folder, data = search_model(model, method, text, parsed, engine, samples, points, options, report)
    else:
        refuse(("method", "text"), "is of language models; give one with --model")
        check_engine(parsed, engine, ENGINES)
        settings = Settings(samples=samples or Settings().samples, pareto=points, seed=options["seed"])
        found = _search_task(parsed, engine, settings, threads, options)
        if found is None:
            return
        folder, data = found
    _finish(folder, data, as_json)


def _search_task(
    parsed: Sequence[Budget], engine: Target | None, settings: Settings, threads: int | None, options: dict[str, Any]
) -> tuple[Path, ReportData] | None:
    """The folder of the run, and what was found; None in all processes but the first."""
    accelerator = accelerator_for(options["device"], options["precision"])
    with progress(quiet=not accelerator.is_main_process) as report, opened(options, accelerator) as run:
        meter, bounds = None, tuple(parsed)
        if engine is not None and bounds_latency(parsed) is not None:
            if accelerator.is_main_process:
                meter = LatencyMeter(
                    run.supernet,
                    run.task.example_inputs(),
                    run.folder / "latency.json",
                    threads,
                    report,
                    timed=ENGINES[engine.name],
                    target=engine,
                )
            else:  # one process times, undisturbed by others
                bounds = tuple(budget for budget in parsed if budget.metric != "latency")
        # Refuses what cannot be met before anything is trained.
        Problem.of(run.supernet.space, bounds, engine, meter.table if meter is not None else None)
        run.train(accelerator, report)
        if not accelerator.is_main_process:
            return None
        data = find(
            run.supernet,
            run.task,
            parsed,
            settings,
            store=run.folder / "measurements.sqlite",
            target=engine,
            latency=meter,
            report=report,
        )
        return run.folder, data


def _finish(folder: Path, data: ReportData, as_json: bool) -> None:
    """Writes what was found, and says it."""
    data.result.subnet.save(folder / "subnet.json")
    data.result.save(folder / "result.json")
    try:
        page = write_report(replace(data, command=shlex.join(["eqnet", *sys.argv[1:]])), folder)
    except MissingPackageError as e:  # the result is worth more than its pictures
        page = None
        click.echo(f"{e}; then the same command writes it in seconds", err=True)
    if as_json:
        print_json(data.result.to_json())
        return
    print_summary(data.result)
    if page is not None:
        click.echo(f"Report: {page}")


def print_summary(result: SearchResult) -> None:
    """The winner beside fp32 and the uniform networks, and how far predictions can be trusted."""
    scores, score = result.scores, SCORE_TEXTS[result.score]

    def row(name: str, cost: Cost, divergence: float | None, validation: float, test: float | None) -> list[str]:
        shown = [score.precise(validation), score.precise(test) if test is not None else "–"]
        if not score.with_divergence:
            return [name, f"{cost.code_bits:.3f}", kilobytes(cost.bytes), *shown]
        return [name, f"{cost.bpw:.3f}", megabytes(cost.bytes), _nats(divergence), *shown]

    rows = [row("this network", result.cost, result.quality.measured, scores.validation, scores.test)]
    rows += [
        row(f"uniform {bits} bits", u.cost, u.divergence, u.validation, u.test) for bits, u in scores.uniform.items()
    ]
    empty = ["", "0"] if score.with_divergence else [""]
    reference = [score.precise(scores.fp32_validation)]
    reference.append(score.precise(scores.fp32_test) if scores.fp32_test is not None else "–")
    rows.append(["fp32", "32", *empty, *reference])
    wanted = " and ".join(budget.text for budget in result.budget) or "the Pareto front"
    columns = ["stored bits", "size", "divergence"] if score.with_divergence else ["code bits", "size"]
    kinds = [f"{score.name}, {part}" if score.with_divergence else part for part in ("validation", "test")]
    print_table(f"{result.task}: {wanted}", ["network", *columns, *kinds], rows)
    predictor = result.predictor
    click.echo(
        f"Predictor on {predictor.held_out} held-out networks: Kendall τ {predictor.kendall_tau:.3f}, "
        f"Pearson {predictor.pearson:.3f} (linear model: {predictor.baseline.kendall_tau:.3f}, "
        f"{predictor.baseline.pearson:.3f})"
    )
    latency = result.latency
    if latency is not None:
        asked = next(budget for budget in result.budget if budget.metric == "latency")
        click.echo(
            f"Latency for one input: {microseconds(latency.measured)} measured, half of the calls from "
            f"{microseconds(latency.low)} to {microseconds(latency.high)}; {microseconds(latency.predicted)} "
            f"predicted; the budget is {asked.text}\nMeasured on {latency.machine}"
        )


def _nats(divergence: float | None) -> str:
    return f"{divergence:.5f}" if divergence is not None else "–"


def microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f} us"
