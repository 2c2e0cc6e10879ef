"""The nearest format that an engine runs, for messages that refuse another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

from eqnet.errors import InputError, ModelError
from eqnet.export.legality import SPELLED_OUT, nearest
from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity, LayerFormat
from eqnet.packed.layers import PackedLayer
from eqnet.space import ElasticSpace, Layer, TiedSet
from eqnet.target import Target

_SHARED = (
    (Granularity.TENSOR, 0),
    (Granularity.CHANNEL, 0),
    *((Granularity.GROUP, size) for size in (16, 32, 64, 128)),
)

_WEIGHT_ONLY = tuple(
    LayerFormat(Format(bits, symmetric, *shared))
    for bits, symmetric, shared in product(range(MIN_BITS, MAX_BITS + 1), (True, False), _SHARED)
)


def nearest_format(target: Target, layer: PackedLayer) -> Format | None:
    """The weight-only format that ``target`` runs and that departs least from that of ``layer``; None if none does."""
    given = LayerFormat(layer.weight_format)
    described = Layer(layer.path, layer.kind.__name__, layer.rows, layer.cols, 0, 0)
    choices = tuple(dict.fromkeys((*_WEIGHT_ONLY, given)))
    space = ElasticSpace((TiedSet((described,), choices),))
    try:
        return nearest(target, space, {layer.path: given})[layer.path].weight
    except InputError:
        return None


def refusal(target: Target, reasons: Mapping[str, str], layers: Mapping[str, PackedLayer], among: int) -> ModelError:
    """The error for layers that an engine lacks.

    Args:
        target: what it runs, for the nearest format of each.
        reasons: why a layer cannot be, in words, by name.
        layers: by name.
        among: how many layers were looked at.
    """
    lines = []
    for name, reason in list(reasons.items())[:SPELLED_OUT]:
        close = nearest_format(target, layers[name])
        lines.append(f"{name} in {layers[name].weight_format}: {reason}" + _hint(close, target))
    lines += _more(reasons)
    said = "\n  ".join(lines)
    return ModelError(f"{target.name} has no form for {len(reasons)} of {among} layers:\n  {said}")


def _hint(close: Format | None, target: Target) -> str:
    return f" (the nearest that {target.name} has is {close})" if close is not None else ""


def _more(reasons: Iterable[str]) -> list[str]:
    left = len(list(reasons)) - SPELLED_OUT
    return [f"and {left} more; a search with --target proposes nothing but what an engine runs"] if left > 0 else []
