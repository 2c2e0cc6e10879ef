"""``eqnet compare``: how two forms of one network differ, and from which layer on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from torch import Tensor

from eqnet.cli.artifacts import artifact_options
from eqnet.cli.console import Report, json_option, percent, print_json, print_table, progress
from eqnet.cli.subnets import chosen
from eqnet.data import BATCH_NORM_SAMPLES, batches, calibration_inputs, in_order
from eqnet.deploy.batching import pieces
from eqnet.deploy.comparing.comparison import Comparison, Metric, compare
from eqnet.deploy.comparing.layers import LayerFigures
from eqnet.deploy.comparing.supernet import SupernetRunner
from eqnet.deploy.inputs import read_inputs
from eqnet.deploy.opening import Deployed, is_artifact, open_artifact, own_task
from eqnet.deploy.origin import Origin
from eqnet.errors import InputError

BATCH = 64
"""Inputs in one call."""


_FIGURES = ("largest difference", "relative error", "cosine", "differ", "off")
"""Of a layer; the last two of the channel where they are most: see ``LayerFigures``."""


@dataclass(frozen=True)
class _Sides:
    """Both, opened."""

    a: Deployed
    b: Deployed


@click.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--input", "path", type=click.Path(path_type=Path), help="Inputs, .npy or an image.  [default: the test data]"
)
@click.option("--samples", type=click.IntRange(min=1), help="Of the test data, as many.  [default: all]")
@artifact_options
@json_option
def compare_command(
    a: Path,
    b: Path,
    path: Path | None,
    samples: int | None,
    task: str | None,
    cache: Path,
    exact: bool,
    as_json: bool,
) -> None:
    """Compare two forms of one network on the task's test data, layer by layer where both show their layers.

    A, which is taken to be right, and B are each the folder of a run, whose network is the one that its search found,
    or what eqnet export wrote: a folder, an .onnx file, or an .so file, which is machine code. Each layer of B is
    given what the layers of A before it returned, so that only a layer that is itself wrong departs. Layers are always
    compared exactly; --fast changes the outputs alone.
    """
    with progress(quiet=as_json) as report, ExitStack() as stack:
        sides = _open((a, b), task, cache, exact, stack, report)
        inputs, total, metric = _inputs(sides, path, samples, cache)
        found = compare(sides.a.runner, sides.b.runner, inputs, metric, total=total, report=report)
    if as_json:
        print_json(_plain(sides, found))
    else:
        _print(sides, found, "inputs" if path is not None else "test samples")


def _open(
    paths: tuple[Path, Path], spec: str | None, cache: Path, exact: bool, stack: ExitStack, report: Report
) -> _Sides:
    """Opens both; runs first, as they know the code of their task."""
    opened: dict[Path, Deployed] = {}
    for path in sorted(set(paths), key=is_artifact):
        if is_artifact(path):
            task = next((side.task for side in opened.values() if side.task is not None), None)
            needed = path.is_dir() or task is None  # only folders may need it for their model
            opened[path] = open_artifact(path, spec if needed else None, cache=cache, exact=exact)
        else:
            opened[path] = _open_run(path, stack, report)
            origin = opened[path].origin
            spec = spec or (origin.task if origin is not None else None)
    sides = _Sides(*(opened[path] for path in paths))
    names = {side.path: side.origin.name for side in (sides.a, sides.b) if side.origin is not None}
    if len(set(names.values())) > 1:
        (a, name_a), (b, name_b) = names.items()
        raise InputError(f"{a} is of the task '{name_a}', {b} of '{name_b}'; compare two forms of one network")
    return sides


def _open_run(path: Path, stack: ExitStack, report: Report) -> Deployed:
    found = stack.enter_context(chosen(path, None, None, report))
    run = found.run
    origin = Origin.of(run.task, run.plan.task, run.plan.seed)
    inputs = calibration_inputs(run.task, next(run.supernet.parameters()).device, BATCH_NORM_SAMPLES)
    return Deployed(path, SupernetRunner(path, run.supernet, found.subnet, inputs, origin.example()), origin, run.task)


def _inputs(
    sides: _Sides, path: Path | None, samples: int | None, cache: Path
) -> tuple[Iterable[tuple[Tensor, Tensor | None]], int, Metric | None]:
    """Batches, how many samples there are in them, and how their labels are judged."""
    if path is not None:
        x = read_inputs(path, sides.a.taken or sides.b.taken).x[:samples]
        return ((piece, None) for piece in pieces(x, BATCH)), len(x), None
    task = sides.a.task or sides.b.task
    if task is None:
        known = sides.a if sides.a.origin is not None else sides.b
        task = own_task(known.path, known.origin, cache)
    taken = in_order(task.test, BATCH, samples)
    return ((x, y) for x, y in batches(task.test, taken)), sum(map(len, taken)), task.metric


def _print(sides: _Sides, found: Comparison, what: str) -> None:
    outputs = found.outputs
    rows = [
        ["A", f"{sides.a.path}"],
        ["runs as", str(sides.a.runner)],
        ["B", f"{sides.b.path}"],
        ["runs as", str(sides.b.runner)],
        ["largest difference", f"{outputs.largest:.3g}"],
        ["relative error", f"{outputs.relative:.3g}"],
        ["cosine", f"{outputs.cosine:.6f}"],
    ]
    if found.agreement is not None:
        rows.append(["same top 1", percent(found.agreement)])
    if found.accuracy is not None:
        rows += [["accuracy of A", percent(found.accuracy[0])], ["accuracy of B", percent(found.accuracy[1])]]
    print_table(f"Outputs on {found.samples} {what}", ["", "value"], rows)
    if found.layers:
        print_table(
            f"Layers of B, each on what A's layers before it returned, on {found.layer_samples} of them",
            ["layer", "weight", "input", *_FIGURES, "departs"],
            [_row(layer) for layer in found.layers],
        )
    click.echo(_verdict(sides, found))


def _row(layer: LayerFigures) -> list[str]:
    formats = ["", ""] if layer.record is None else [str(layer.record.weight), str(layer.record.input or "float")]
    figures = layer.figures
    shown = [f"{figures.largest:.3g}", f"{figures.relative:.3g}", f"{figures.cosine:.6f}"]
    shown += [percent(layer.differing), percent(layer.systematic)]
    return [layer.name, *formats, *shown, "yes" if layer.departs else ""]


def _verdict(sides: _Sides, found: Comparison) -> str:
    if not found.layers:
        hidden = [str(side.path) for side in (sides.a, sides.b) if side.runner.kind == "tvm" or not side.runner.record]
        return f"Layers cannot be compared: {' and '.join(hidden) or 'neither form'} shows none of them."
    first = found.first
    extra = [layer.name for layer in found.layers if layer.approximate]
    more = f" Values before {_quoted(extra)} are rounded more than in the packed model." if extra else ""
    if first is None:
        return f"No layer departs: what differs is rounding.{more}"
    if first.approximate or first.unseen:
        how = f"its results are {percent(first.systematic)} off and {percent(first.noise)} noise"
    else:
        how = f"of a channel, {percent(first.differing)} differ by more than rounding"
    verdict = f"The first layer that departs is '{first.name}': {how}.{more}"
    if not first.unseen:
        return verdict
    return f"{verdict} It may be {_quoted(first.unseen)} before it: only one of both shows what that returns."


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _plain(sides: _Sides, found: Comparison) -> dict[str, Any]:
    def one(side: Deployed, index: int) -> dict[str, Any]:
        accuracy = found.accuracy[index] if found.accuracy is not None else None
        return {"path": str(side.path), "runs": str(side.runner), "accuracy": accuracy}

    return {
        "a": one(sides.a, 0),
        "b": one(sides.b, 1),
        "samples": found.samples,
        **asdict(found.outputs),
        "agreement": found.agreement,
        "layer_samples": found.layer_samples,
        "layers": [
            {
                "name": layer.name,
                "weight": str(layer.record.weight) if layer.record is not None else None,
                "input": str(layer.record.input) if layer.record is not None and layer.record.input else None,
                **asdict(layer.figures),
                "differing": layer.differing,
                "systematic": layer.systematic,
                "noise": layer.noise,
                "approximate": layer.approximate,
                "departs": layer.departs,
                "unseen": list(layer.unseen),
            }
            for layer in found.layers
        ],
        "departs": found.first.name if found.first is not None else None,
    }
