"""``eqnet run``: what an exported network answers."""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np

from eqnet.cli.artifacts import artifact_options
from eqnet.cli.console import json_option, percent, print_json, print_table, progress
from eqnet.deploy.answering import Answer, answer
from eqnet.deploy.opening import open_artifact
from eqnet.errors import InputError
from eqnet.files import write_atomically
from eqnet.tasks.task import Normalization

TOP = 5
SHOWN = 10


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="X.npy|IMAGE",
    help="An array [N, ...] or one input [...], prepared as the task does; or an image.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="Y.npy", help="Write all outputs here.")
@click.option("--mean", metavar="M[,M...]", help="Of an image's pixels, from 0 to 1.  [default: the task's]")
@click.option("--std", metavar="S[,S...]", help="Deviation of an image's pixels.  [default: the task's]")
@artifact_options
@json_option
def run(
    artifact: Path,
    path: Path,
    out: Path | None,
    mean: str | None,
    std: str | None,
    task: str | None,
    cache: Path,
    exact: bool,
    as_json: bool,
) -> None:
    """Run an exported network on an array or an image.

    ARTIFACT is what eqnet export wrote: a folder, an .onnx file, or an .so file, which is machine code. Any other
    .onnx file will do, too. The outputs of a single input, without the batch dimension, are written without it, too.
    """
    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std go together")
    normalization = (
        None if mean is None or std is None else Normalization(_numbers("--mean", mean), _numbers("--std", std))
    )
    if out is not None and out.suffix != ".npy":
        raise click.UsageError(f"-o {out}: outputs are written as a NumPy array; give a name that ends in .npy")
    with progress(quiet=as_json) as report:
        found = answer(open_artifact(artifact, task, cache=cache, exact=exact), path, normalization, report)
    if out is not None:
        content = io.BytesIO()
        np.save(content, (found.y if found.inputs.batched else found.y[0]).numpy(), allow_pickle=False)
        write_atomically(out, content.getvalue())
    if as_json:
        top = [[{"class": c, "probability": p} for c, p in row] for row in found.top(TOP, len(found.y))]
        shape = [*found.y.shape] if found.inputs.batched else [*found.y.shape[1:]]
        print_json({"input": [*found.inputs.said], "runs": found.engine, "shape": shape, "top": top})
        return
    _print(found, path)
    if out is not None:
        click.echo(f"Outputs: {out}")


def _print(found: Answer, path: Path) -> None:
    click.echo(f"{path}: {'; '.join(found.inputs.said)}. Runs as {found.engine}.")
    top = found.top(TOP, SHOWN)
    if not top:
        low, mean, high = found.y.min().item(), found.y.mean().item(), found.y.max().item()
        click.echo(f"Outputs {[*found.y.shape]}: from {low:.5g} to {high:.5g}, mean {mean:.5g}")
        return
    more = f", the first {SHOWN} of {len(found.y)}" if len(found.y) > SHOWN else ""
    print_table(
        f"Most probable classes{more}",
        ["input", *(str(rank + 1) for rank in range(len(top[0])))],
        [[str(i), *(f"{c}: {percent(p)}" for c, p in row)] for i, row in enumerate(top)],
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as e:
        raise InputError(
            f"{option} {text}: expected numbers with commas between them, such as 0.5 or 0.4,0.5,0.6"
        ) from e
