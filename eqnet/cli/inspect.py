"""``eqnet inspect``: the layers of what a search found, or of an exported network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from eqnet.cli.console import json_option, print_json, print_table, progress
from eqnet.cli.search import print_summary
from eqnet.deploy.files import FileSummary, summarize_file
from eqnet.deploy.opening import is_artifact
from eqnet.deploy.summary import LayerSummary, Summary, by_number, summarize
from eqnet.errors import InputError
from eqnet.runtime.engines.metadata import NO_RECORD
from eqnet.runtime.opening import is_file_of_engine
from eqnet.search.result import SearchResult


@click.command()
@click.argument("folder", metavar="RUN|ARTIFACT", type=click.Path(path_type=Path))
@json_option
def inspect(folder: Path, as_json: bool) -> None:
    """Show the layers of a network: formats, bits and bytes.

    The network is that of a run with a search result, or what eqnet export wrote. Of a folder every byte is checked.
    Of an .onnx file, be it eqnet's or not, operators and tensors are counted, too. Nothing of an .so file is run.
    """
    if folder.is_file() or is_file_of_engine(folder):
        file = summarize_file(folder)
        if as_json:
            print_json(_plain_file(file))
        else:
            _print_file(file)
        return
    if is_artifact(folder):
        with progress(quiet=as_json) as report:
            summary = summarize(folder, report)
        if as_json:
            print_json(_plain(summary))
        else:
            _print_artifact(summary)
        return
    path = folder / "result.json"
    if not path.exists():
        raise InputError(
            f"{folder}: holds neither a search result nor an artifact; run eqnet search --out {folder} first, or give "
            "a folder that eqnet export wrote"
        )
    result = SearchResult.load(path)
    if as_json:
        print_json(result.to_json()["layers"])
        return
    print_summary(result)
    _print_layers(result)


def _print_layers(result: SearchResult) -> None:
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


def _print_artifact(summary: Summary) -> None:
    origin = summary.origin
    rows = [["folder", str(summary.folder)], ["model", summary.architecture]]
    if origin is not None:
        rows += [["task", origin.task], ["one input", f"{str(origin.dtype).removeprefix('torch.')} {[*origin.shape]}"]]
    rows += [
        ["tensors", f"{summary.nbytes:,} bytes"],
        ["files", f"{summary.nbytes + summary.overhead:,} bytes"],
        ["stored bits per weight", f"{summary.bpw:.3f}"],
        ["left in floating point", _floating(summary)],
        ["layout", f"version {summary.version}, written by {summary.written_by}"],
        ["checks", "every checksum agrees"],
    ]
    print_table("Artifact", ["", "value"], rows)
    print_table(
        "Layers",
        ["layer", "kind", "weights", "weight", "input", "bytes", "folded"],
        [_row(layer) for layer in summary.layers],
    )


def _row(layer: LayerSummary) -> list[str]:
    return [
        layer.name,
        layer.record.kind,
        f"{layer.weights:,}",
        str(layer.record.weight),
        str(layer.record.input or "float"),
        f"{layer.nbytes:,}",
        ", ".join(layer.folded),
    ]


def _floating(summary: Summary) -> str:
    """How much is in no packed layer, and what of it are batch norms."""
    size = sum(summary.floating.values())
    if not size:
        return "nothing"
    norms = f", batch norms as scale and shift: {', '.join(summary.affine)}" if summary.affine else ""
    return f"{size:,} bytes in {len(summary.floating)} tensors{norms}"


def _print_file(file: FileSummary) -> None:
    """Prints what a file holds."""
    rows = [["file", str(file.path)], ["form", file.form]]
    rows += [["written by", file.written_by]] if file.written_by else []
    rows += [["task", file.origin.task]] if file.origin is not None else []
    rows += [["budgets", ", ".join(file.origin.budgets)]] if file.origin is not None and file.origin.budgets else []
    rows += [["takes", text] for text in file.inputs] + [["returns", text] for text in file.outputs]
    rows += [["size", f"{file.nbytes:,} bytes"]]
    rows += [[f"of it {kind}", f"{size:,} bytes"] for kind, size in file.tensors.items()]
    rows += [["record", NO_RECORD]] if file.record is None else []
    print_table("Artifact", ["", "value"], rows)
    if file.operators:
        print_table("Operators", ["operator", "nodes"], [[kind, f"{count}"] for kind, count in file.operators.items()])
    if file.record is not None:
        sized = ["bytes"] if file.layers else []
        print_table(
            "Layers",
            ["layer", "kind", "weights", "weight", "input", *sized],
            [
                [
                    name,
                    layer.kind,
                    f"{math.prod(layer.shape):,}",
                    str(layer.weight),
                    str(layer.input or "float"),
                    *([f"{file.layers[name]:,}"] if sized else []),
                ]
                for name, layer in sorted(file.record.layers.items(), key=lambda item: by_number(item[0]))
            ],
        )


def _plain_file(file: FileSummary) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "form": file.form,
        "written_by": file.written_by,
        "bytes": file.nbytes,
        "inputs": list(file.inputs),
        "outputs": list(file.outputs),
        "origin": file.origin.to_json() if file.origin is not None else None,
        "operators": dict(file.operators),
        "tensors": dict(file.tensors),
        "layers": [
            {"name": name, **layer.to_json(), "bytes": file.layers.get(name)}
            for name, layer in sorted(file.record.layers.items(), key=lambda item: by_number(item[0]))
        ]
        if file.record is not None
        else None,
    }


def _plain(summary: Summary) -> dict[str, Any]:
    origin = summary.origin
    return {
        "folder": str(summary.folder),
        "architecture": summary.architecture,
        "origin": origin.to_json() if origin is not None else None,
        "version": summary.version,
        "written_by": summary.written_by,
        "bytes": summary.nbytes,
        "overhead": summary.overhead,
        "bpw": summary.bpw,
        "floating": summary.floating,
        "affine": list(summary.affine),
        "layers": [
            {
                "name": layer.name,
                **layer.record.to_json(),
                "weights": layer.weights,
                "bytes": layer.nbytes,
                "folded": list(layer.folded),
            }
            for layer in summary.layers
        ],
    }
