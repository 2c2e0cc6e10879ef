"""Whether a target runs a subnet, and the nearest one that it does run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from eqnet.errors import InputError, RunError
from eqnet.formats import Format, LayerFormat
from eqnet.search.cost import FLOAT_BITS, layer_bytes
from eqnet.space import ElasticSpace, Layer, TiedSet
from eqnet.subnet import Subnet
from eqnet.target import Target

SPELLED_OUT = 5
"""Layers that an error names, at most, before it counts the others."""


@dataclass(frozen=True)
class Violation:
    """A layer that a target does not run.

    Attributes:
        layer: its name.
        format: that it has.
        rule: that forbids it, as a sentence which names the target and the layer.
    """

    layer: str
    format: LayerFormat
    rule: str


def illegal(target: Target, layers: Iterable[Layer], subnet: Mapping[str, LayerFormat]) -> tuple[Violation, ...]:
    """What ``target`` does not run of ``subnet``, in the order of ``layers``; nothing if it runs it all."""
    reasons = [(layer.name, subnet[layer.name], target.why_not(layer, subnet[layer.name])) for layer in layers]
    return tuple(Violation(name, fmt, rule) for name, fmt, rule in reasons if rule is not None)


def nearest(target: Target, space: ElasticSpace, subnet: Mapping[str, LayerFormat]) -> Subnet:
    """The subnet of ``space`` that ``target`` runs and that departs least from ``subnet``.

    Each tied set takes, of the formats that run, those that

    1. give up the fewest bits of weights and inputs, none if they can,
    2. give up the fewest scales, none if they can,
    3. store the fewest bytes more,
    4. are closest in widths, then in granularity, then in symmetry,

    so that a set that runs keeps its own.

    Raises:
        InputError: the subnet is not one of the space, or the target runs nothing of some layer; the message names it.
    """
    genes = space.genes(subnet)
    runs = target.restrict(space)
    formats: dict[str, LayerFormat] = {}
    for tied, left, gene in zip(space.sets, runs.sets, genes, strict=True):
        taken = _closest(space, left, tied.choices[int(gene)])
        formats.update({layer.name: space.member_format(layer, taken) for layer in tied.layers})
    return Subnet(formats)


def require_legal(target: Target, space: ElasticSpace, subnet: Mapping[str, LayerFormat], folder: Path | None) -> None:
    """Makes sure that ``target`` runs ``subnet``.

    Args:
        target: the engine.
        space: that the subnet is of.
        subnet: to be run.
        folder: where the nearest subnet that runs is written if this one does not; None writes nothing.

    Raises:
        InputError: it does not run; the message has the layers, the rules and how to go on.
    """
    found = illegal(target, space.layers, subnet)
    if not found:
        return
    rules = [violation.rule for violation in found[:SPELLED_OUT]]
    if len(found) > SPELLED_OUT:
        rules.append(f"and {len(found) - SPELLED_OUT} more")
    said = f"{target.name} does not run {len(found)} of {len(space.layers)} layers in these formats:\n  "
    said += "\n  ".join(rule.removeprefix(f"{target.name} does not run ") for rule in rules)
    try:
        legal = nearest(target, space, subnet)
    except InputError as e:
        raise InputError(f"{said}\nNo network of this elastic space runs there: {e}") from e
    if folder is None:
        raise InputError(f"{said}\nA search for this target (eqnet search --target) proposes nothing but what it runs")
    path = folder / f"subnet-{re.sub(r'[^A-Za-z0-9._-]', '-', target.name)}.json"
    try:
        legal.save(path)
    except RunError as e:
        raise InputError(f"{said}\nThe nearest network that it runs could not be kept: {e}") from e
    raise InputError(f"{said}\nThe nearest network that it runs is in {path}: give --subnet {shlex.quote(str(path))}")


def _closest(space: ElasticSpace, left: TiedSet, given: LayerFormat) -> LayerFormat:
    """The choice of ``left`` that departs least from ``given``."""

    def departure(choice: LayerFormat) -> tuple[int, ...]:
        members = [
            _departure(layer, space.member_format(layer, given), space.member_format(layer, choice), space.scale_bits)
            for layer in left.layers
        ]
        return tuple(map(sum, zip(*members, strict=True)))

    return min(left.choices, key=departure)


def _departure(layer: Layer, given: LayerFormat, taken: LayerFormat, scale_bits: int) -> tuple[int, ...]:
    """How far ``taken`` is from ``given``, what matters most first."""
    before, after = layer.stored_format(given.weight), layer.stored_format(taken.weight)
    widths = (after.bits - before.bits, _bits(taken.activation) - _bits(given.activation))
    scales = _scales(layer, after) - _scales(layer, before)
    extra = layer_bytes(layer, taken, scale_bits) - layer_bytes(layer, given, scale_bits)
    return (
        sum(max(0, -width) for width in widths),
        max(0, -scales),
        max(0, extra),
        sum(map(abs, widths)),
        (given.weight.granularity, given.weight.group_size) != (taken.weight.granularity, taken.weight.group_size),
        before.symmetric is not after.symmetric,
        _asymmetric(given.activation) is not _asymmetric(taken.activation),
    )


def _bits(activation: Format | None) -> int:
    return activation.bits if activation is not None else FLOAT_BITS


def _asymmetric(activation: Format | None) -> bool | None:
    return not activation.symmetric if activation is not None else None


def _scales(layer: Layer, weight: Format) -> int:
    rows, groups = weight.scale_shape(layer.rows, layer.cols)
    return rows * groups
