"""``eqnet export``: write a network of a run for where it will be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch

from eqnet.cli.console import Report, json_option, print_json, print_table, progress
from eqnet.cli.language import (
    Made,
    Wanted,
    is_language_model,
    method_option,
    packed_model,
    packed_run,
    refuse,
    text_option,
)
from eqnet.cli.subnets import chosen, subnet_options
from eqnet.data import BATCH_NORM_SAMPLES, calibration_inputs
from eqnet.export.destinations import DESTINATIONS, Destination, Export, Written, destination
from eqnet.export.legality import illegal, require_legal
from eqnet.export.packing import pack_run
from eqnet.export.targets import built_in, load_target
from eqnet.lm.run import is_language_run
from eqnet.packed.model import PackedModel
from eqnet.runtime.engine import engine_for
from eqnet.search.cost import CostModel
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet
from eqnet.target import Target

EXAMPLE_TOKENS = 8
"""Of the input with which a language model is traced; any other number does as well."""


@click.command()
@click.argument("run", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.option(
    "--to",
    default="eqnet",
    show_default=True,
    metavar="DESTINATION",
    help="; ".join(f"{row.name}: {row.title}" for row in DESTINATIONS.values()) + ".",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File or folder to write.")
@subnet_options
@click.option("--target", help="Refuse what this engine does not run; see eqnet targets.")
@click.option("--portable", is_flag=True, help="onnx: standard operators alone, for any engine.")
@click.option("--exact", is_flag=True, help="onnx: keep sums of convolutions in floating point; slower.")
@click.option(
    "--opset", type=click.IntRange(min=1), help="onnx: version of the operators.  [default: as old as can be]"
)
@click.option("--kernels", help="tvm: tir, code that TVM compiles, or eqnet, eqnet's own C++ kernels.")
@click.option("--machine", help="tvm: a TVM target as JSON.  [default: the processor of this machine]")
@click.option("--cc", help="tvm: the C++ compiler that links, such as aarch64-linux-gnu-g++.")
@click.option("--engine", help="compressed-tensors: vllm, or transformers, which runs every format.  [default: vllm]")
@click.option("--arch", help="cuda: architectures, such as sm_80,sm_90.")
@method_option("Of a model in floating point, or to train what a search found", "gptq, or that of the search")
@text_option(
    "Of a model in floating point, or to train what a search found",
    " to fit codes to",
    "eqnet's own, or that of the search",
)
@json_option
def export(
    run: Path,
    to: str,
    out: Path,
    subnet: Path | None,
    uniform: int | None,
    target: str | None,
    method: str | None,
    text: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Pack a network of a run, and write it for where it will be used.

    RUN is the folder of a run; of a task, batch norm is re-estimated as it was for the figures of the search, and
    folded. Or it is a language model in floating point, a folder or .gguf file, which needs no search with --uniform or
    --subnet.
    """
    row = destination(to)
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    row.check(out, given)
    engine = load_target(target) if target is not None else None
    wanted = Wanted(subnet, uniform, engine, method, text)
    with progress(quiet=as_json) as report:
        if is_language_run(run):
            written = _write_model(packed_run(run, wanted, report), row, out, given, report)
        elif is_language_model(run):
            written = _write_model(packed_model(run, wanted, report), row, out, given, report)
        else:
            refuse(("method", "text"), "is of language models alone; leave it out")
            written = _write_network(run, subnet, uniform, engine, row, out, given, report)
    title, facts = written
    if as_json:
        print_json({"path": str(out), **facts})
        return
    print_table(
        title,
        ["", "value"],
        [["written", str(out)], *([_words(name), _shown(name, value)] for name, value in facts.items())],
    )


def _write_network(
    run: Path,
    subnet: Path | None,
    uniform: int | None,
    engine: Target | None,
    row: Destination,
    out: Path,
    given: Mapping[str, Any],
    report: Report,
) -> tuple[str, dict[str, Any]]:
    """A title for people, and what there is to say of the export."""
    with chosen(run, subnet, uniform, report) as found:
        space, task = found.run.supernet.space, found.run.task
        if engine is not None:
            require_legal(engine, space, found.subnet, run)
        report("Packing", 0, 1)
        packed = pack_run(found.run, found.subnet, found.accuracy, found.budgets)
        report("Packing", 1, 1)
        example, calibration = task.example_inputs(), calibration_inputs(task, "cpu", BATCH_NORM_SAMPLES)
        written = row.write(Export(packed, out, example, calibration, given, report))
        facts = _facts(packed, space, found.subnet, written, str(engine_for(packed, example)))
    return f"{task.name} in {len(packed.layers)} packed layers", facts


def _write_model(
    made: Made, row: Destination, out: Path, given: Mapping[str, Any], report: Report
) -> tuple[str, dict[str, Any]]:
    """The same of a language model."""
    from eqnet.lm.engine import engine_of

    example = torch.zeros(1, EXAMPLE_TOKENS, dtype=torch.int64)
    written = row.write(Export(made.packed, out, example, (), given, report, made.source))
    facts = _facts(made.packed, made.space, made.subnet, written, str(engine_of(made.packed)))
    return f"{made.source.name} in {len(made.packed.layers)} packed layers", facts


def _facts(packed: PackedModel, space: ElasticSpace, subnet: Subnet, written: Written, runs: str) -> dict[str, Any]:
    """What is said of an export, by what it is about."""
    return {
        "bytes": packed.nbytes,
        "budgeted": CostModel(space).cost(subnet).bytes,
        "files": written.nbytes,
        **written.facts,
        "bpw": packed.bpw,
        "runs": runs,
        "targets": [target.name for target in built_in() if not illegal(target, space.layers, subnet)],
    }


_WORDS: Mapping[str, str] = {
    "bytes": "tensors, packed",
    "budgeted": "by the budget's arithmetic",
    "files": "what was written",
    "overhead": "of it overhead",
    "stored_weights": "weights in types of the file",
    "packed_weights": "weights in exactly their bits",
    "any": "of any size",
    "stored_bpw": "bits per weight in types of the file",
    "layers": "layers run as",
    "dense": "written in floating point",
    "computes_in": "computes in",
    "loads": "loaded by",
    "difference": "difference from the packed model",
    "bpw": "stored bits per weight",
    "runs": "eqnet runs it as",
    "targets": "formats are those of",
}
_BYTES = ("bytes", "budgeted", "files", "overhead", "stored_weights", "packed_weights")


def _words(name: str) -> str:
    return _WORDS.get(name, name)


def _shown(name: str, value: Any) -> str:
    if name in _BYTES:
        return f"{value:,} bytes"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return "\n".join(f"{count} × {what}" for what, count in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
