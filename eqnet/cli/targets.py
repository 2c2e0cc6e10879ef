"""``eqnet targets``: which engines a search can be made for, and what they run."""

from __future__ import annotations

import click

from eqnet.cli.console import json_option, print_json, print_table
from eqnet.export.targets import built_in
from eqnet.target import Allowed


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """List the deployment targets and the formats that each one runs."""

    def described(allowed: Allowed | None) -> dict[str, object] | None:
        if allowed is None:
            return None
        return {
            "bits": sorted(allowed.bits),
            "granularity": sorted(allowed.granularity),
            "symmetric": sorted(allowed.symmetric, reverse=True),
        }

    rows = [
        {
            "name": target.name,
            "title": target.title,
            "source": target.source,
            "weight": described(target.weight),
            "activation": described(target.activation),
            "float_activation": target.float_activation,
        }
        for target in built_in()
    ]
    if as_json:
        print_json(rows)
        return

    def words(allowed: Allowed | None) -> str:
        if allowed is None:
            return "float"
        symmetry = "/".join("sym" if s else "asym" for s in sorted(allowed.symmetric, reverse=True))
        return f"{','.join(map(str, sorted(allowed.bits)))} bits, {','.join(sorted(allowed.granularity))}, {symmetry}"

    print_table(
        "Targets (--target NAME, or a .toml file of the same form)",
        ["name", "weights", "activations", "what it is"],
        [[t.name, words(t.weight), words(t.activation), t.title] for t in built_in()],
    )
