"""``eqnet targets``: which engines a search can be made for, and what they run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import click

from eqnet.cli.console import json_option, print_json
from eqnet.export.targets import load_target, table, tables
from eqnet.target import Target
from eqnet.target_rules import Allowed, Rule

WIDTH = 110
"""Columns of the text."""


@click.command()
@click.argument("name", required=False, metavar="[NAME|FILE.toml]")
@json_option
def targets(name: str | None, as_json: bool) -> None:
    """Show the deployment targets, and the formats that each one runs.

    With the name of one, or the path of a table of your own, show that one and its table, which one of your own may
    start from.
    """
    shown = [load_target(known) for known in ([name] if name is not None else tables())]
    if as_json:
        print_json([_json(target) for target in shown] if name is None else _json(shown[0]))
        return
    click.echo("\n\n".join("\n".join(_lines(target)) for target in shown))
    if name is not None:
        path = table(name)
        click.echo(f"\n{path}:\n\n{path.read_text(encoding='utf-8').rstrip()}")
    else:
        click.echo("\nA search for one: eqnet search --target NAME. For your own chip: --target FILE.toml;")
        click.echo("start from a table that is shown by: eqnet targets NAME")


def _lines(target: Target) -> Iterator[str]:
    yield from textwrap.wrap(f"{target.name}: {target.title}", WIDTH)
    others = "all other layers" if any(rule.kinds for rule in target.rules) else "all layers"
    before = None
    for rule in target.rules:
        yield from _item("or" if rule.kinds == before else ", ".join(rule.kinds) or others, _rule(rule))
        before = rule.kinds
    space = f"--space '{target.space}'" if target.space else ""
    for name, text in (("fast", target.fast), ("search", space), *(("source", source) for source in target.source)):
        if text:
            yield from _item(name, text)


def _item(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"  {name}: {' '.join(text.split())}", WIDTH, subsequent_indent="    ", break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def _rule(rule: Rule) -> str:
    if rule.weight is None:
        return "do not run quantized"
    if rule.kinds == ("Embedding",):
        return f"weights of {_allowed(rule.weight)}"
    inputs = [f"of {_allowed(rule.activation)}"] if rule.activation is not None else []
    inputs += ["in floating point"] if rule.float_activation else []
    return f"weights of {_allowed(rule.weight)}; inputs {', or '.join(inputs)}"


def _allowed(allowed: Allowed) -> str:
    sizes = [name.removeprefix("group") for name in allowed.granularities if name.startswith("group")]
    shared = [name for name in allowed.granularities if not name.startswith("group")]
    if sizes:
        shared.append(f"group of {_either(sizes)} weights" if "" not in sizes else "group of any size")
    symmetry = _either(["symmetric" if value else "asymmetric" for value in sorted(allowed.symmetric, reverse=True)])
    return f"{_widths(sorted(allowed.bits))} bits, per {_either(shared)}, {symmetry}"


def _widths(bits: Sequence[int]) -> str:
    return f"{bits[0]}–{bits[-1]}" if len(bits) > 2 and bits[-1] - bits[0] == len(bits) - 1 else _either(bits)


def _either(values: Sequence[object]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def _json(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "title": target.title,
        "fast": target.fast,
        "space": target.space,
        "source": list(target.source),
        "rules": [
            {
                "kinds": list(rule.kinds),
                "runs": rule.weight is not None,
                "weight": _allowed_json(rule.weight),
                "activation": _allowed_json(rule.activation),
                "float_activation": rule.float_activation,
            }
            for rule in target.rules
        ],
    }


def _allowed_json(allowed: Allowed | None) -> dict[str, Any] | None:
    if allowed is None:
        return None
    return {
        "bits": sorted(allowed.bits),
        "granularity": allowed.granularities,
        "symmetric": sorted(allowed.symmetric, reverse=True),
    }
