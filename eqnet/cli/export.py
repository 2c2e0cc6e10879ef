"""``eqnet export``: write a network of a run for where it will be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from eqnet.cli.console import json_option, print_json, print_table, progress
from eqnet.cli.subnets import Chosen, check, chosen, subnet_options
from eqnet.deploy.engine import engine_for
from eqnet.export.destinations import DESTINATIONS, destination
from eqnet.export.packing import pack_run
from eqnet.export.targets import built_in
from eqnet.packed.artifact import Artifact
from eqnet.packed.model import PackedModel
from eqnet.search.cost import CostModel


@click.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--to",
    default="eqnet",
    show_default=True,
    metavar="DESTINATION",
    help="; ".join(f"{row.name}: {row.title}" for row in DESTINATIONS.values()) + ".",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@subnet_options
@json_option
def export(run: Path, to: str, out: Path, subnet: Path | None, uniform: int | None, as_json: bool) -> None:
    """Pack a network of a run, and write it for where it will be used.

    RUN is the folder of a run. Batch norm is re-estimated as it was for the figures of the search, and folded.
    """
    written = destination(to)
    check(run, subnet, uniform)
    with progress(quiet=as_json) as report, chosen(run, subnet, uniform, report) as found:
        report("Packing", 0, 2)
        packed = pack_run(found.run, found.subnet, found.accuracy)
        report("Packing", 1, 2)
        written.write(packed, out)
        report("Packing", 2, 2)
        size = _size(found, packed, out)
        engine = str(engine_for(packed, found.run.task.example_inputs()))
        targets = [
            target.name
            for target in built_in()
            if not any(target.why_not(layer, found.subnet[layer.name]) for layer in found.run.supernet.space.layers)
        ]
    if as_json:
        print_json({"folder": str(out), **asdict(size), "runs": engine, "targets": targets})
        return
    print_table(
        f"{found.run.task.name} in {len(packed.layers)} packed layers",
        ["", "value"],
        [
            ["folder", str(out)],
            ["tensors", f"{size.bytes:,} bytes"],
            ["by the budget's arithmetic", f"{size.budgeted:,} bytes"],
            ["files", f"{size.files:,} bytes"],
            ["of them overhead", f"{size.overhead:,} bytes"],
            ["stored bits per weight", f"{size.bpw:.3f}"],
            ["runs as", engine],
            ["formats are those of", ", ".join(targets)],
        ],
    )


@dataclass(frozen=True)
class _Size:
    """Bytes of the tensors, as they are and as the budget counts them, and of the files; bits per weight."""

    bytes: int
    budgeted: int
    files: int
    overhead: int
    bpw: float


def _size(found: Chosen, packed: PackedModel, out: Path) -> _Size:
    artifact = Artifact.open(out)
    return _Size(
        bytes=artifact.nbytes,
        budgeted=CostModel(found.run.supernet.space).cost(found.subnet).bytes,
        files=artifact.nbytes + artifact.overhead,
        overhead=artifact.overhead,
        bpw=packed.bpw,
    )
