"""``eqnet train``: make a task's model elastic and train the supernet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from eqnet.cli.console import json_option, print_json, print_table, progress
from eqnet.cli.options import run_options
from eqnet.cli.session import accelerator_for, opened


@click.command()
@run_options
@json_option
def train(as_json: bool, **options: Any) -> None:
    """Make a task's model elastic and train the supernet.

    Killed at any moment, the same command goes on from the last checkpoint and ends with the same weights. Under
    torchrun (torchrun --nproc-per-node 2 -m eqnet train ...) every process takes its share of each batch.
    """
    accelerator = accelerator_for(options["device"], options["precision"])
    with progress(quiet=not accelerator.is_main_process) as report, opened(options, accelerator) as run:
        run.train(accelerator, report)
        if not accelerator.is_main_process:
            return
        last_step = _last_line(run.folder / "training.jsonl")
        summary = {
            "folder": str(run.folder),
            "layers": len(run.supernet.space.layers),
            "left_alone": run.supernet.left_alone,
            "epochs": run.options.epochs,
            "last_step": last_step,
        }
    if as_json:
        print_json(summary)
        return
    rows = [["elastic layers", str(summary["layers"])], ["epochs", str(summary["epochs"])]]
    rows += [[f"loss, {name}", f"{value:.4f}"] for name, value in last_step.items() if name not in ("step", "epoch")]
    print_table(f"Supernet in {run.folder}", ["", "value"], rows)
    for name, reason in run.supernet.left_alone.items():
        click.echo(f"left in floating point: {name} ({reason})")


def _last_line(path: Path) -> dict[str, float]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    values: dict[str, float] = json.loads(lines[-1]) if lines else {}
    return values
