"""``eqnet eval``: what a network of a run is worth on the task's test data."""

from __future__ import annotations

from pathlib import Path

import click

from eqnet.cli.console import json_option, percent, print_json, print_table, progress
from eqnet.cli.session import accelerator_for
from eqnet.errors import InputError
from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity, LayerFormat
from eqnet.run import Run
from eqnet.search.measure import Judge
from eqnet.subnet import Subnet


@click.command("eval")
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--subnet", type=click.Path(path_type=Path), help="A subnet as JSON.  [default: what the search found]")
@click.option(
    "--uniform", type=click.IntRange(MIN_BITS, MAX_BITS), help="Instead, the network with this width throughout."
)
@click.option(
    "--data", type=click.Choice(["test", "validation"]), default="test", show_default=True, help="What to measure on."
)
@json_option
def evaluate(run: Path, subnet: Path | None, uniform: int | None, data: str, as_json: bool) -> None:
    """Measure a network of a run on the task's test data.

    RUN is the folder of a run.
    """
    if subnet is not None and uniform is not None:
        raise click.UsageError("give either --subnet or --uniform")
    path = subnet or run / "subnet.json"
    if subnet is None and uniform is None and not path.exists():
        raise InputError(f"{run}: holds no search result; run eqnet search --out {run} first, or give --uniform")
    chosen = None if uniform is not None else Subnet.load(path)
    with progress() as report, Run.reopen(run) as opened:
        opened.train(accelerator_for("auto", opened.plan.precision), report)
        if chosen is None:
            width = int(uniform or MAX_BITS)
            chosen = opened.supernet.space.nearest(
                LayerFormat(Format(width, True, Granularity.CHANNEL), Format(width, False))
            )
        try:
            opened.supernet.space.genes(chosen)
        except InputError as e:
            raise InputError(f"{path}: {e}") from e
        dataset = opened.task.test if data == "test" else opened.task.validation
        measured = Judge(opened.supernet, opened.task, dataset).measure(chosen)
    figures = {"accuracy": measured.accuracy, "loss": measured.loss, "divergence": measured.divergence}
    if as_json:
        print_json({"data": data, **figures})
        return
    print_table(
        f"{run} on {data} data",
        ["", "value"],
        [
            ["accuracy", percent(measured.accuracy)],
            ["loss", f"{measured.loss:.4f}"],
            ["divergence from floating point", f"{measured.divergence:.5f} nats"],
        ],
    )
