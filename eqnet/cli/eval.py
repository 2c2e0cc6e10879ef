"""``eqnet eval``: what a network of a run, or an exported one, is worth on the task's data."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from eqnet.cli.artifacts import artifact_options
from eqnet.cli.console import json_option, percent, print_json, print_table, progress
from eqnet.cli.language import refuse, text_option
from eqnet.cli.language_figures import evaluate as evaluate_model
from eqnet.cli.language_figures import is_language
from eqnet.cli.subnets import chosen, subnet_options
from eqnet.deploy.batching import in_pieces
from eqnet.deploy.opening import Deployed, is_artifact, open_artifact
from eqnet.deploy.origin import PARTS
from eqnet.deploy.scoring import Score, score
from eqnet.search.measure import Judge


@click.command("eval")
@click.argument("path", metavar="RUN|ARTIFACT", type=click.Path(path_type=Path))
@subnet_options
@click.option("--data", type=click.Choice(PARTS), default="test", show_default=True, help="What to measure on.")
@text_option("Of a language model", default="the held-out part of eqnet's own")
@click.option("--windows", type=click.IntRange(min=1), help="Of text, each of 512 tokens at most.  [default: all]")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Of a language model: the one that it is to be like; also tells how far it is from that.",
)
@artifact_options
@json_option
def evaluate(
    path: Path,
    subnet: Path | None,
    uniform: int | None,
    data: str,
    text: tuple[Path, ...],
    windows: int | None,
    reference: Path | None,
    task: str | None,
    cache: Path,
    exact: bool,
    as_json: bool,
) -> None:
    """Measure a network on the task's test data, or a language model on text.

    The network is one of a run, or what eqnet export wrote: a folder, an .onnx file, or an .so file, which is machine
    code; any other .onnx file of the task's network will do, too. --task, --cache, --fast and --compute are for
    artifacts, --subnet and --uniform for runs. Of a language model (--task causal-lm), packed or in floating point, the
    perplexity is told, and how far it is from --reference.
    """
    if is_language(path, task):
        refuse(("subnet", "uniform", "data", "cache"), "says nothing of a language model; leave it out")
        evaluate_model(path, text, reference, windows, "float" if exact else "int8", as_json)
        return
    refuse(("text", "windows", "reference"), "is of language models; leave it out")
    if is_artifact(path):
        if subnet is not None or uniform is not None:
            raise click.UsageError(f"{path} holds one network; --subnet and --uniform choose among those of a run")
        with progress() as report:
            opened = open_artifact(path, task, cache=cache, exact=exact, with_task=True)
            assert opened.task is not None
            run = partial(in_pieces, opened.runner)
            measured = score(run, opened.task, getattr(opened.task, data), report)
        _print_artifact(opened, data, str(opened.runner), measured, as_json)
    else:
        if task is not None:
            raise click.UsageError(f"{path} is no artifact; a run knows its task, leave out --task")
        _evaluate_run(path, subnet, uniform, data, as_json)


def _evaluate_run(folder: Path, subnet: Path | None, uniform: int | None, data: str, as_json: bool) -> None:
    with progress() as report, chosen(folder, subnet, uniform, report) as found:
        dataset = getattr(found.run.task, data)
        measured = Judge(found.run.supernet, found.run.task, dataset).measure(found.subnet)
    figures = {"accuracy": measured.accuracy, "loss": measured.loss, "divergence": measured.divergence}
    if as_json:
        print_json({"data": data, **figures})
        return
    print_table(
        f"{folder} on {data} data",
        ["", "value"],
        [
            ["accuracy", percent(measured.accuracy)],
            ["loss", f"{measured.loss:.4f}"],
            ["divergence from floating point", f"{measured.divergence:.5f} nats"],
        ],
    )


def _print_artifact(opened: Deployed, data: str, engine: str, measured: Score, as_json: bool) -> None:
    reported = opened.origin.accuracy.get(data) if opened.origin is not None else None
    if as_json:
        figures = {"accuracy": measured.accuracy, "loss": measured.loss, "reported": reported}
        print_json({"data": data, "samples": measured.samples, **figures, "runs": engine})
        return
    rows = [["accuracy", percent(measured.accuracy)], ["loss", f"{measured.loss:.4f}"]]
    if reported is not None:
        difference = 100 * (measured.accuracy - reported)
        rows.append(["reported by the search", f"{percent(reported)} ({difference:+.2f} points)"])
    print_table(f"{opened.path} on {data} data", ["", "value"], [*rows, ["runs as", engine]])
