"""What a deployment engine runs: rules about formats, read from a table."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqnet.errors import InputError
from eqnet.formats import MAX_BITS, MIN_BITS, Format, LayerFormat
from eqnet.space import Layer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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

    def why_not(self, fmt: Format) -> str | None:
        """The first rule that ``fmt`` breaks, in words; None if it runs."""
        shared = f"{fmt.granularity.value}{fmt.group_size or ''}"
        if fmt.bits not in self.bits:
            return f"{fmt.bits} bits are not among {_listed(self.bits)}"
        if shared not in self.granularity and fmt.granularity.value not in self.granularity:
            return f"granularity '{shared}' is not among {_listed(self.granularity)}"
        if fmt.symmetric not in self.symmetric:
            return "it has to be " + ("asymmetric" if fmt.symmetric else "symmetric")
        return None


@dataclass(frozen=True)
class Target:
    """An engine or chip, and what it runs.

    Attributes:
        name: as it is given to ``--target``.
        title: one line for people.
        source: where the rules are documented.
        weight: formats of weights.
        activation: formats of activations; None if activations stay in floating point.
        float_activation: whether a layer may keep its input in floating point.
    """

    name: str
    title: str
    source: str
    weight: Allowed
    activation: Allowed | None
    float_activation: bool

    def why_not(self, layer: Layer, fmt: LayerFormat) -> str | None:
        """Why ``layer`` cannot run in ``fmt`` here, in words; None if it can."""
        reason = self.weight.why_not(fmt.weight)
        if reason is not None:
            return f"{self.name} does not run the weight of '{layer.name}' in {fmt.weight}: {reason}"
        if fmt.activation is None:
            if self.float_activation or layer.kind == "Embedding":
                return None
            return f"{self.name} does not run '{layer.name}' with a floating-point input"
        if self.activation is None:
            return f"{self.name} does not run '{layer.name}' with a quantized input"
        reason = self.activation.why_not(fmt.activation)
        return f"{self.name} does not run the input of '{layer.name}' in {fmt.activation}: {reason}" if reason else None

    @classmethod
    def load(cls, path: str | Path) -> Target:
        """Reads a target from a TOML table; raises InputError naming the file and the key that is wrong."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as e:
            raise InputError(f"{path}: cannot be read as a target ({e})") from e
        try:
            _check_keys(data, {"name", "title", "source", "float_activation", "weight", "activation"})
            activation = data.get("activation")
            return cls(
                name=str(data.get("name", path.stem)),
                title=str(data["title"]),
                source=str(data.get("source", "")),
                weight=_allowed(data["weight"]),
                activation=_allowed(activation) if activation is not None else None,
                float_activation=_boolean(data.get("float_activation", activation is None)),
            )
        except KeyError as e:
            raise InputError(f"{path}: the key {e} is missing; see the targets that come with eqnet") from e
        except (TypeError, ValueError) as e:
            raise InputError(f"{path}: {e}") from e


def _allowed(data: Mapping[str, Any]) -> Allowed:
    _check_keys(data, {"bits", "granularity", "symmetric"})
    bits = frozenset(data["bits"])
    if not bits or not bits <= set(range(MIN_BITS, MAX_BITS + 1)):
        raise ValueError(f"bits = {data['bits']}: expected widths from {MIN_BITS} to {MAX_BITS}")
    granularity = frozenset(data.get("granularity", ["tensor"]))
    for name in granularity:
        if not re.fullmatch(r"tensor|channel|group([1-9]\d*)?", name):
            raise ValueError(f"granularity '{name}': expected tensor, channel, group or a size such as group32")
    return Allowed(bits, granularity, frozenset(_boolean(value) for value in data.get("symmetric", [True, False])))


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r}: expected true or false")
    return value


def _check_keys(data: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown key '{unknown[0]}'; there are {', '.join(sorted(known))}")


def _listed(values: frozenset[Any]) -> str:
    return ", ".join(map(str, sorted(values)))
