"""``eqnet inspect``: the layers of what a search found."""

from __future__ import annotations

from pathlib import Path

import click

from eqnet.cli.console import json_option, print_json, print_table
from eqnet.cli.search import print_summary
from eqnet.errors import InputError
from eqnet.search.result import SearchResult


@click.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@json_option
def inspect(run: Path, as_json: bool) -> None:
    """Show the layers of what a search found: formats, bits, bytes and sensitivity.

    RUN is the folder of a run.
    """
    path = run / "result.json"
    if not path.exists():
        raise InputError(f"{run}: holds no search result; run eqnet search --out {run} first")
    result = SearchResult.load(path)
    if as_json:
        print_json(result.to_json()["layers"])
        return
    print_summary(result)
    widths = sorted({bits for layer in result.layers for bits in layer.sensitivity})
    shown = [bits for bits in (2, 4, 8) if bits in widths]
    print_table(
        "Layers, in the order in which they run (sensitivity: nats of divergence that its weights add)",
        ["layer", "kind", "weights", "weight", "input", "bytes", *(f"at {bits} bits" for bits in shown)],
        [
            [
                layer.name,
                layer.kind,
                f"{layer.weights:,}",
                str(layer.weight_format),
                str(layer.activation_format or "float"),
                f"{layer.bytes:,}",
                *(f"{layer.sensitivity[bits]:.2g}" if bits in layer.sensitivity else "–" for bits in shown),
            ]
            for layer in result.layers
        ],
    )
