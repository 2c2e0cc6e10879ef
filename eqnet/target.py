"""What a deployment engine runs: rules about formats, read from a table."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqnet.errors import InputError
from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity, LayerFormat
from eqnet.space import Layer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
_DEPTHWISE = "depthwise"
KINDS = ("Linear", "Embedding", *_CONVOLUTIONS, _DEPTHWISE)
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
            return 0, f"{fmt.bits} bits are not among {_listed(self.bits)}"
        if shared not in self.granularity and fmt.granularity.value not in self.granularity:
            return 1, f"granularity '{shared}' is not among {_listed(self.granularities)}"
        if fmt.symmetric not in self.symmetric:
            return 2, "it has to be " + ("asymmetric" if fmt.symmetric else "symmetric")
        return None

    @property
    def granularities(self) -> list[str]:
        """``granularity`` in the order tensor, channel, groups by their size."""
        return sorted(self.granularity, key=_order)


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


_NOTHING = Rule((), None, None, float_activation=False)


@dataclass(frozen=True)
class Target:
    """An engine or chip, and what it runs.

    Attributes:
        name: as it is given to ``--target``.
        title: one line for people.
        source: where the rules are documented.
        fast: which of the forms the engine runs fast, in words.
        rules: those that name a layer's kind hold for it, or else those that name none; it runs if it keeps one.
    """

    name: str
    title: str
    source: tuple[str, ...]
    fast: str
    rules: tuple[Rule, ...]

    def why_not(self, layer: Layer, fmt: LayerFormat) -> str | None:
        """Why ``layer`` cannot run in ``fmt`` here, in words; None if it can."""
        found = []
        for rule in self._rules_for(layer):
            broken = rule.broken(layer, fmt)
            if broken is None:
                return None
            found.append(broken)
        return f"{self.name} does not run {max(found, key=lambda broken: broken[0])[1]}"

    def _rules_for(self, layer: Layer) -> list[Rule]:
        """Those that say most precisely what ``layer`` is; of several, the one that it comes nearest to is told."""
        for name in (_DEPTHWISE, layer.kind) if layer.depthwise else (layer.kind,):
            named = [rule for rule in self.rules if name in rule.kinds]
            if named:
                return named
        return [rule for rule in self.rules if not rule.kinds] or [_NOTHING]

    @classmethod
    def load(cls, path: str | Path) -> Target:
        """Reads a target from a TOML table; raises InputError naming the file and the key that is wrong."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise InputError(f"{path}: cannot be read as a target ({e})") from e
        try:
            return _target(data, path.stem)
        except KeyError as e:
            raise InputError(f"{path}: the key {e} is missing; see the targets that come with eqnet") from e
        except (TypeError, ValueError) as e:
            raise InputError(f"{path}: {e}") from e


_RULE_KEYS = {"weight", "activation", "float_activation"}


def _target(data: Mapping[str, Any], name: str) -> Target:
    _check_keys(data, {"name", "title", "source", "fast", "layer", *_RULE_KEYS})
    source = data.get("source", [])
    layers = _list(data, "layer", [])
    general = {key: data[key] for key in _RULE_KEYS & set(data)}
    rules = [_rule(general)] if general or not layers else []
    for number, table in enumerate(layers, start=1):
        try:
            rules.append(_rule(_table(table, "layer"), of_kinds=True))
        except KeyError as e:
            raise ValueError(f"[[layer]] {number}: the key {e} is missing") from e
        except (TypeError, ValueError) as e:
            raise ValueError(f"[[layer]] {number}: {e}") from e
    return Target(
        name=_text(data.get("name", name)),
        title=_text(data["title"]),
        source=tuple(map(_text, source)) if isinstance(source, list) else (_text(source),),
        fast=_text(data.get("fast", "")),
        rules=tuple(rules),
    )


def _rule(data: Mapping[str, Any], *, of_kinds: bool = False) -> Rule:
    if of_kinds:
        _check_keys(data, {"kinds", "runs", *_RULE_KEYS})
    kinds = tuple(_list(data, "kinds", []))
    for kind in kinds:
        if kind not in KINDS:
            close = difflib.get_close_matches(str(kind), KINDS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"kinds = {kind!r}: {hint}there are {_listed(KINDS)}")
    if not _boolean(data.get("runs", True)):
        if set(data) != {"kinds", "runs"}:
            raise ValueError("runs = false goes with kinds, and with nothing else")
        return Rule(kinds, None, None, float_activation=False)
    activation = data.get("activation")
    return Rule(
        kinds,
        weight=_allowed(_table(data["weight"], "weight")),
        activation=_allowed(_table(activation, "activation")) if activation is not None else None,
        float_activation=_boolean(data.get("float_activation", activation is None)),
    )


def _allowed(data: Mapping[str, Any]) -> Allowed:
    _check_keys(data, {"bits", "granularity", "symmetric"})
    bits = _list(data, "bits")
    if not bits or not all(type(width) is int and MIN_BITS <= width <= MAX_BITS for width in bits):
        raise ValueError(f"bits = {bits}: expected widths from {MIN_BITS} to {MAX_BITS}")
    granularity = _list(data, "granularity", ["tensor"])
    for name in granularity:
        if not re.fullmatch(r"tensor|channel|group([1-9]\d{0,8})?", _text(name)):
            raise ValueError(f"granularity '{name}': expected tensor, channel, group or a size such as group32")
    symmetric = frozenset(_boolean(value) for value in _list(data, "symmetric", [True, False]))
    if not granularity or not symmetric:
        raise ValueError("granularity and symmetric: expected at least one value; leave a key out to have its default")
    return Allowed(frozenset(bits), frozenset(granularity), symmetric)


def _table(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{key} = {value!r}: expected a table")
    return value


def _list(data: Mapping[str, Any], key: str, default: list[Any] | None = None) -> list[Any]:
    value = data[key] if default is None else data.get(key, default)
    if not isinstance(value, list):
        raise TypeError(f"{key} = {value!r}: expected a list, in brackets")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}: expected a text in quotes")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r}: expected true or false")
    return value


def _check_keys(data: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown key '{unknown[0]}'; there are {', '.join(sorted(known))}")


def _order(granularity: str) -> tuple[int, int]:
    kind = granularity.rstrip("0123456789")
    return list(Granularity).index(Granularity(kind)), int(granularity.removeprefix(kind) or 0)


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(values) if isinstance(values, frozenset) else values))
