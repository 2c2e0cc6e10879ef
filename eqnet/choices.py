"""The user's description of an elastic space, the same for every layer: ``w=2-8:channel a=2-8``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from eqnet.errors import InputError
from eqnet.formats import MAX_BITS, MIN_BITS, Format, LayerFormat

_ALL_BITS = tuple(range(MIN_BITS, MAX_BITS + 1))
_GRANULARITY = re.compile(r"tensor|channel|group[1-9][0-9]*")
_SYMMETRY = {"sym": True, "asym": False}
_SCALE_BITS = {"fp32": 32, "fp16": 16}
PRESETS: Mapping[str, str] = {
    "default": "w=2-8:tensor,channel:sym,asym a=2-8:asym edge=8 scale=fp32",
    "grouped": "w=2-8:tensor,channel,group32:sym,asym a=2-8:asym edge=8 scale=fp32",
    "weight-only": "w=2-8:group32,group128:sym,asym a=float edge=8 scale=fp16",
    "language-model": "w=2-8:group16,group32,group64,group128,channel:sym,asym a=float edge=none scale=fp16",
}


@dataclass(frozen=True)
class Choices:
    """Which formats layers may take, before a model is known.

    Attributes:
        weight_bits: widths of weights.
        granularity: what may share one scale of a weight, as in a format's text: tensor, channel, group32.
        weight_symmetric: True, False or both.
        activation_bits: widths of inputs; none for weight-only.
        activation_symmetric: True, False or both. After a ReLU a symmetric format leaves half of its codes unused, so
            only a user whose engine asks for them pays for training them.
        edge_bits: the one width of the first and the last layer; 0 lets them vary like the others.
        scale_bits: stored width of a weight's scale, 32 or 16.
    """

    weight_bits: tuple[int, ...] = _ALL_BITS
    granularity: tuple[str, ...] = ("tensor", "channel")
    weight_symmetric: tuple[bool, ...] = (True, False)
    activation_bits: tuple[int, ...] = _ALL_BITS
    activation_symmetric: tuple[bool, ...] = (False,)
    edge_bits: int = 8
    scale_bits: int = 32

    @classmethod
    def parse(cls, text: str, *, defaults: str | None = None) -> Choices:
        """Reads a preset's name, or fields such as ``w=2-8:channel,group32:asym a=4,8 edge=none scale=fp16``.

        Fields and parts that are left out keep their defaults; ``a=float`` leaves activations alone.

        Args:
            text: as above.
            defaults: the preset that what is left out is taken from; without, the attributes' own.

        Raises:
            InputError: a field cannot be read; the message names it.
        """
        choices = cls() if defaults is None else cls.parse(defaults)
        for token in PRESETS.get(text.strip(), text).split():
            name, equals, value = token.partition("=")
            if not equals or name not in _FIELDS:
                raise InputError(
                    f"'{token}' is not a field of a space; write a preset ({', '.join(PRESETS)}) or fields like "
                    "'w=2-8:channel:sym,asym a=2-8:asym edge=8 scale=fp32'"
                )
            try:
                choices = replace(choices, **_FIELDS[name](value))
            except (KeyError, ValueError) as e:
                raise InputError(f"'{token}' in the space '{text}' cannot be read: {_HINTS[name]}") from e
        return choices

    def __str__(self) -> str:
        def symmetry(values: tuple[bool, ...]) -> str:
            return ",".join("sym" if v else "asym" for v in values)

        def bits(values: tuple[int, ...]) -> str:
            return ",".join(map(str, values))

        weight = f"w={bits(self.weight_bits)}:{','.join(self.granularity)}:{symmetry(self.weight_symmetric)}"
        activation = f"a={bits(self.activation_bits)}:{symmetry(self.activation_symmetric)}"
        return (
            f"{weight} {activation if self.activation_bits else 'a=float'} "
            f"edge={self.edge_bits or 'none'} scale=fp{self.scale_bits}"
        )

    def formats(self, *, edge: bool = False) -> tuple[LayerFormat, ...]:
        """Every layer format, narrow to wide; at ``edge_bits`` alone for the first and last layer."""
        fixed = (self.edge_bits,) if edge and self.edge_bits else None
        weights = [
            Format.parse(f"{'' if symmetric else 'u'}int{bits}:{granularity}")
            for bits, granularity, symmetric in product(
                fixed or self.weight_bits, self.granularity, self.weight_symmetric
            )
        ]
        activations: list[Format | None] = [
            Format(bits, symmetric)
            for bits, symmetric in product(fixed or self.activation_bits, self.activation_symmetric)
        ]
        return tuple(LayerFormat(w, a) for w, a in product(weights, activations if self.activation_bits else [None]))


def _bits(text: str) -> tuple[int, ...]:
    widths: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        widths.update(range(int(low), int(high or low) + 1))
    if not widths or not widths <= set(_ALL_BITS):
        raise ValueError(text)
    return tuple(sorted(widths))


def _symmetry(text: str) -> tuple[bool, ...]:
    return tuple(dict.fromkeys(_SYMMETRY[part] for part in text.split(",")))


def _weight(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, part in enumerate(text.split(":")):
        if i == 0:
            found["weight_bits"] = _bits(part)
        elif part.split(",")[0] in _SYMMETRY:
            found["weight_symmetric"] = _symmetry(part)
        else:
            names = tuple(dict.fromkeys(part.split(",")))
            for name in names:
                if _GRANULARITY.fullmatch(name) is None:
                    raise ValueError(name)
            found["granularity"] = names
    return found


def _activation(text: str) -> dict[str, Any]:
    if text == "float":
        return {"activation_bits": ()}
    bits, _, symmetry = text.partition(":")
    found: dict[str, Any] = {"activation_bits": _bits(bits)}
    return found | ({"activation_symmetric": _symmetry(symmetry)} if symmetry else {})


def _edge(text: str) -> dict[str, Any]:
    (width,) = (0,) if text == "none" else _bits(text)
    return {"edge_bits": width}


_FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "w": _weight,
    "a": _activation,
    "edge": _edge,
    "scale": lambda text: {"scale_bits": _SCALE_BITS[text]},
}
_HINTS = {
    "w": "expected BITS[:GRANULARITY][:SYMMETRY], such as w=2-8:tensor,channel,group32:sym,asym with bits 2 to 8",
    "a": "expected BITS[:SYMMETRY] or float, such as a=4,8:asym with bits 2 to 8",
    "edge": "expected one width from 2 to 8, or none",
    "scale": f"expected {' or '.join(_SCALE_BITS)}",
}
