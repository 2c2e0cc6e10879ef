"""Rules about formats: what an engine runs of one kind of layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eqnet.formats import Format, Granularity, LayerFormat
from eqnet.space import Layer

_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
DEPTHWISE = "depthwise"
KINDS = ("Linear", "Embedding", *_CONVOLUTIONS, DEPTHWISE)
"""What a rule can be about: the modules that become elastic, and convolutions with one input channel a group."""


@dataclass(frozen=True)
class Allowed:
    """The formats of one tensor that an engine runs.

    Attributes:
        bits: widths of a code.
        granularity: as in a format's text: ``tensor``, ``channel``, ``group32``; ``group`` allows any size.
        symmetric: True, False or both.
    """

    bits: frozenset[int]
    granularity: frozenset[str]
    symmetric: frozenset[bool]

    def broken(self, fmt: Format) -> tuple[int, str] | None:
        """The first rule that ``fmt`` breaks: how many it keeps before, and the rule in words; None if it runs."""
        shared = f"{fmt.granularity.value}{fmt.group_size or ''}"
        if fmt.bits not in self.bits:
            return 0, f"{fmt.bits} bits are not among {listed(self.bits)}"
        if shared not in self.granularity and fmt.granularity.value not in self.granularity:
            return 1, f"granularity '{shared}' is not among {listed(self.granularities)}"
        if fmt.symmetric not in self.symmetric:
            return 2, "it has to be " + ("asymmetric" if fmt.symmetric else "symmetric")
        return None

    @property
    def granularities(self) -> list[str]:
        """``granularity`` in the order tensor, channel, groups by their size."""
        return sorted(self.granularity, key=_order)

    def __or__(self, other: Allowed) -> Allowed:
        """What is in either, and more where they differ in several ways."""
        return Allowed(self.bits | other.bits, self.granularity | other.granularity, self.symmetric | other.symmetric)


@dataclass(frozen=True)
class Rule:
    """One way in which an engine runs layers.

    Attributes:
        kinds: that it is about, of ``KINDS``; none for all the layers that no other rule names.
        weight: formats of weights, as they are stored; None if the engine does not run these layers quantized.
        activation: formats of the layers' inputs; None if inputs stay in floating point.
        float_activation: whether an input may stay in floating point.
    """

    kinds: tuple[str, ...]
    weight: Allowed | None
    activation: Allowed | None
    float_activation: bool

    def broken(self, layer: Layer, fmt: LayerFormat) -> tuple[int, str] | None:
        """What keeps ``layer`` from running in ``fmt`` in this way, as ``Allowed.broken``; None if it does run."""
        if self.weight is None:
            return 0, f"'{layer.name}': it has no quantized {layer.kind}"
        stored = layer.stored_format(fmt.weight)
        found = self.weight.broken(stored)
        if found is not None:
            folded = f" (stored as {stored}, as it takes in a batch norm)" if stored != fmt.weight else ""
            return found[0], f"the weight of '{layer.name}' in {fmt.weight}{folded}: {found[1]}"
        if fmt.activation is None:
            floats = self.float_activation or layer.kind == "Embedding"
            return None if floats else (3, f"'{layer.name}' with a floating-point input")
        if self.activation is None:
            return 3, f"'{layer.name}' with a quantized input"
        found = self.activation.broken(fmt.activation)
        return found and (4 + found[0], f"the input of '{layer.name}' in {fmt.activation}: {found[1]}")


def listed(values: Iterable[Any]) -> str:
    """Values for people; those of a set in order."""
    return ", ".join(map(str, sorted(values) if isinstance(values, frozenset) else values))


def _order(granularity: str) -> tuple[int, int]:
    kind = granularity.rstrip("0123456789")
    return list(Granularity).index(Granularity(kind)), int(granularity.removeprefix(kind) or 0)
