"""``eqnet import``: take over a model that another tool has quantized."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eqnet.cli.console import json_option, print_json, print_table, progress

if TYPE_CHECKING:
    from eqnet.lm.glm import GlmCheckpoint, Imported


@click.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--degree",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that will share the model; a folder for each of them if more than one.",
)
@click.option("--heads", type=click.IntRange(min=1), help="Of the queries, where the checkpoint does not tell.")
@json_option
def import_command(checkpoint: Path, out: Path, degree: int, heads: int | None, as_json: bool) -> None:
    """Take over the INT4 or INT8 weights of GLM-130B or a ChatGLM as they are.

    CHECKPOINT is the folder of GLM-130B, with latest in it and a file for each process that shares the model; or that
    of a ChatGLM, with config.json and .safetensors or .bin files. Codes and scales stay what they are, however many
    processes shared the model before and will from now on. Of .pt and .bin files, which are pickles, nothing is run.

    A ChatGLM2, ChatGLM3 or GLM-4 runs then: eqnet generate OUT --ids. In floating point they become a folder of
    transformers, for eqnet search --model OUT. Of GLM-130B and ChatGLM-6B, whose models transformers does not have,
    the weights keep their names, for a model of your own: eqnet.load(OUT, model).
    """
    from eqnet.lm.glm import read_glm, resharded, write_glm

    opened = read_glm(checkpoint, heads=heads)
    with progress(quiet=as_json) as report:
        written = write_glm(resharded(opened, degree), out, report)
    facts = _facts(opened, written, out)
    if as_json:
        print_json(facts)
        return
    title = f"{facts['architecture']} in {facts['layers']} packed layers"
    rows = [
        ["written", ", ".join(facts["folders"])],
        ["parts", f"{facts['degree_before']} before, {facts['degree']} now"],
        ["formats", "\n".join(f"{count} × {fmt}" for fmt, count in facts["formats"].items()) or "floating point"],
        ["tensors", f"{facts['bytes']:,} bytes"],
        ["next", _next(opened, written)],
    ]
    print_table(title if facts["layers"] else facts["architecture"], ["", "value"], rows)


def _facts(opened: GlmCheckpoint, written: tuple[Imported, ...], out: Path) -> dict[str, Any]:
    formats = Counter(str(layer.weight) for part in written for layer in part.layers.values())
    return {
        "path": str(out),
        "folders": [str(part.folder) for part in written],
        "kind": opened.kind.value,
        "architecture": written[0].architecture,
        "degree_before": opened.degree,
        "degree": len(written),
        "layers": sum(len(part.layers) for part in written),
        "formats": dict(formats.most_common()),
        "bits": opened.sizes.bits,
        "weights": sum(math.prod(layer.shape) for part in written for layer in part.layers.values()),
        "bytes": sum(part.nbytes for part in written),
    }


def _next(opened: GlmCheckpoint, written: tuple[Imported, ...]) -> str:
    """What to do with what was written."""
    if opened.sizes.bits is None:
        return f"eqnet search --model {written[0].folder}"
    if written[0].architecture.endswith("ForCausalLM"):
        return f"eqnet generate {written[0].folder} --ids"
    return f"eqnet.load('{written[0].folder}', model), with a model of your own"
