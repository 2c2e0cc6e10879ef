"""``eqnet bench``: how fast an exported network, or the kernels themselves, are on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from eqnet import _kernels
from eqnet.bench.fresh import Start, start
from eqnet.bench.kernels import ROWS, KernelSpeed, sweep
from eqnet.bench.network import EXACT, FORMS, Speed, compare, repeated, sample
from eqnet.bench.roofline import LIMITS
from eqnet.cli.artifacts import artifact_options
from eqnet.cli.console import json_option, print_json, print_table, progress
from eqnet.cli.language import refuse
from eqnet.cli.language_figures import bench as bench_model
from eqnet.cli.language_figures import is_language
from eqnet.deploy.batching import fixed_batch
from eqnet.deploy.inputs import read_inputs
from eqnet.deploy.opening import open_artifact
from eqnet.runtime.runner import Runner

F = TypeVar("F", bound=Callable[..., Any])

BATCHES = (1, 16)
"""Inputs in one call, unless the user or the artifact says otherwise."""

_LARGEST = 1 << 20
"""Number that an option takes."""


def _numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Whole numbers from 1 with commas between them; none if the option is not given."""
    if text is None:
        return ()
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() and 0 < int(part) <= _LARGEST for part in parts):
        raise click.BadParameter(
            f"{text!r}; expected whole numbers from 1 with commas between them, such as 1,16", context, parameter
        )
    return tuple(map(int, parts))


def _list_option(name: str, **given: Any) -> Callable[[F], F]:
    return click.option(name, metavar="N[,N...]", callback=_numbers, **given)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path), required=False)
@click.option(
    "--kernels", is_flag=True, help="Instead, time the linear kernels in every width, beside this machine's limits."
)
@_list_option("--batch", help="Inputs in one call.  [default: 1,16, or the one size that the artifact takes]")
@_list_option("--threads", help="Threads to use.  [default: 1 and all]")
@click.option(
    "--seconds", type=click.FloatRange(min=0.01, max=86400), default=10, show_default=True, help="To time for."
)
@_list_option("--shape", default="4096,4096", show_default=True, help="Of the kernels' weight.")
@click.option(
    "--input", "path", type=click.Path(path_type=Path), help="Inputs to run, .npy or an image.  [default: noise]"
)
@click.option(
    "--prompt", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens of a language model's prompt."
)
@click.option(
    "--tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Tokens of a language model's answer."
)
@artifact_options
@json_option
def bench(
    artifact: Path | None,
    kernels: bool,
    batch: tuple[int, ...],
    threads: tuple[int, ...],
    seconds: float,
    shape: tuple[int, ...],
    path: Path | None,
    prompt: int,
    tokens: int,
    task: str | None,
    cache: Path,
    exact: bool,
    as_json: bool,
) -> None:
    """Time an exported network, where it is a folder beside the same one in fp32, in turn.

    ARTIFACT is what eqnet export wrote, or any other .onnx file. The fp32 network is PyTorch's, in channels-last
    order, on the dequantized weights; a file does not hold what it would take to make it. An .onnx file is timed in
    the session that answers exactly, and in the one that ONNX Runtime makes by default; with --fast in that alone. Of a
    language model, packed or in floating point, it is told how fast it reads a prompt and writes an answer, each number
    of threads in a process of its own.
    """
    if (artifact is None) != kernels:
        raise click.UsageError("give either an artifact or --kernels")
    counts = tuple(dict.fromkeys(threads or (1, torch.get_num_threads())))
    if artifact is None:
        if len(shape) != 2:
            raise click.UsageError("--shape takes two numbers: output channels and columns")
        _bench_kernels((shape[0], shape[1]), counts, seconds, as_json)
        return
    if is_language(artifact, task):
        refuse(("batch", "seconds", "input", "cache"), "says nothing of a language model; leave it out")
        bench_model(artifact, counts, "float" if exact else "int8", prompt, tokens, as_json)
        return
    refuse(("prompt", "tokens"), "is of language models; leave it out")
    with progress(quiet=as_json) as report:
        opened = open_artifact(artifact, task, cache=cache, exact=exact)
        x = sample(opened) if path is None else read_inputs(path, opened.taken).x
        fixed = fixed_batch(opened.runner)
        sizes = tuple(dict.fromkeys(batch)) or (BATCHES if fixed is None else (fixed,))
        report("Starting a new process", 0, 1)
        begun = start(artifact, repeated(x, fixed or 1), max(counts), task, cache, exact=exact)
        report("Starting a new process", 1, 1)

        def at(count: int) -> dict[str, Runner]:
            form = FORMS[opened.runner.kind]
            if opened.packed is not None:
                return {form: opened.runner}  # it uses as many threads as PyTorch does
            forms = {EXACT: True, form: False} if exact and form == FORMS["onnx"] else {form: exact}
            return {
                name: open_artifact(artifact, task, cache=cache, exact=how, threads=count).runner
                for name, how in forms.items()
            }

        speeds = compare(opened, at, x, sizes, counts, seconds, report)
    engine = str(opened.runner)
    isa = _kernels.isa() if opened.packed is not None else None  # other engines choose theirs
    if as_json:
        figures = [_figures(speed) for speed in speeds]
        print_json({"runs": engine, "isa": isa, "start": asdict(begun), "speeds": figures})
        return
    _print_network(f"{engine}; instructions: {isa}" if isa is not None else engine, begun, speeds)


def _figures(speed: Speed) -> dict[str, Any]:
    percentiles = {f"p{share}": speed.times.percentile(share) for share in (50, 90, 99)}
    calls = len(speed.times.seconds)
    form = {"form": speed.form, "threads": speed.threads, "batch": speed.batch}
    return {**form, **percentiles, "per_second": speed.per_second, "calls": calls}


def _print_network(engine: str, begun: Start, speeds: list[Speed]) -> None:
    click.echo(f"Runs as {engine}.")
    rows = []
    floating = {(speed.threads, speed.batch): speed.times.median for speed in speeds if speed.form == "fp32"}
    for speed in speeds:
        figures = _figures(speed)
        times = [f"{1000 * figures[key]:.3f}" for key in ("p50", "p90", "p99")]
        row = [speed.form, f"{speed.threads}", f"{speed.batch}", *times, f"{speed.per_second:,.0f}"]
        beside = floating.get((speed.threads, speed.batch))
        rows.append(row if beside is None else [*row, f"{beside / speed.times.median:.2f}"])
    columns = ["network", "threads", "batch", "p50 ms", "p90 ms", "p99 ms", "inputs/s"]
    columns += ["times fp32"] if floating else []
    print_table("Latency of one call", columns, rows)
    memory = []
    if begun.imported_bytes is not None and begun.peak_bytes is not None:
        memory = [
            ["peak memory", f"{begun.peak_bytes / 1e6:,.1f} MB"],
            ["of it after importing", f"{(begun.peak_bytes - begun.imported_bytes) / 1e6:,.1f} MB"],
        ]
    print_table(
        "A new process, up to its first output",
        ["", "value"],
        [
            ["importing PyTorch and eqnet", f"{begun.importing:.2f} s"],
            ["loading", f"{1000 * begun.loading:.1f} ms"],
            ["first output", f"{1000 * begun.first_output:.1f} ms"],
            *memory,
        ],
    )


def _bench_kernels(shape: tuple[int, int], counts: tuple[int, ...], seconds: float, as_json: bool) -> None:
    with progress(quiet=as_json) as report:
        found = sweep(shape, counts, seconds, report)
    if as_json:
        machine = [{"threads": count, **rate} for count, rate in found.limits.items()]
        print_json({"isa": _kernels.isa(), "limits": machine, "kernels": [asdict(speed) for speed in found.kernels]})
        return
    print_table(
        f"Limits of this machine ({_kernels.isa()}), billions a second",
        ["threads", *LIMITS.values()],
        [[f"{count}", *(f"{rate[name] / 1e9:,.1f}" for name in LIMITS)] for count, rate in found.limits.items()],
    )
    rows, cols = shape
    print_table(
        f"y = x Wᵀ with W of {rows} × {cols}; decode: {ROWS['decode']} row of x, W from memory; "
        f"prefill: {ROWS['prefill']} rows, W in a cache",
        ["threads", "bits", "group", "compute", "decode ms", "GB/s", "of limit", "prefill ms", "Gop/s", "of limit"],
        [_kernel_row(decode, prefill) for decode, prefill in _pairs(found.kernels)],
    )


def _pairs(found: tuple[KernelSpeed, ...]) -> list[tuple[KernelSpeed, KernelSpeed]]:
    """Decode and prefill of the same format and way to compute."""
    by_case = {(s.threads, s.bits, s.group, s.compute, s.stage): s for s in found}
    return [(s, by_case[(*key[:-1], "prefill")]) for key, s in by_case.items() if s.stage == "decode"]


def _kernel_row(decode: KernelSpeed, prefill: KernelSpeed) -> list[str]:
    return [
        f"{decode.threads}",
        f"{decode.bits}",
        f"{decode.group}" if decode.group else "row",
        decode.compute,
        f"{1000 * decode.seconds:.3f}",
        f"{decode.bytes_per_second / 1e9:.1f}",
        f"{100 * decode.roofline:.0f} %",
        f"{1000 * prefill.seconds:.3f}",
        f"{prefill.operations_per_second / 1e9:.1f}",
        f"{100 * prefill.roofline:.0f} %",
    ]
