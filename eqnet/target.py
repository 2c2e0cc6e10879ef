"""What a deployment engine runs, read from a table of rules."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from eqnet.errors import InputError
from eqnet.formats import MAX_BITS, MIN_BITS, LayerFormat
from eqnet.space import ElasticSpace, Layer
from eqnet.target_rules import DEPTHWISE, KINDS, Allowed, Rule, listed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
        """Why ``layer`` cannot run in ``fmt`` here, in words; None if it can.

        Of several ways to run it, the one is told that it comes closest to.
        """
        found = []
        for rule in self._rules_for(layer):
            broken = rule.broken(layer, fmt)
            if broken is None:
                return None
            found.append(broken)
        return f"{self.name} does not run {max(found, key=lambda broken: broken[0])[1]}"

    def _rules_for(self, layer: Layer) -> list[Rule]:
        """Those that say most precisely what ``layer`` is."""
        for name in (DEPTHWISE, layer.kind) if layer.depthwise else (layer.kind,):
            named = [rule for rule in self.rules if name in rule.kinds]
            if named:
                return named
        return [rule for rule in self.rules if not rule.kinds] or [_NOTHING]

    def restrict(self, space: ElasticSpace) -> ElasticSpace:
        """The part of ``space`` that runs here.

        Raises:
            InputError: nothing is left for some layer; the message names it, a rule, and a space that has more to run.
        """
        try:
            return space.restrict(self.why_not)
        except InputError as e:
            raise InputError(f"{e}, such as to --space '{self.space}'" if self.space else str(e)) from e

    @property
    def space(self) -> str:
        """A space to search in, as ``--space`` takes it; "" if the engine runs nothing.

        It has all that runs on integers, or else all that is weight-only, and more where the rules of several kinds of
        layers differ.
        """
        rules = [(rule.weight, rule.activation) for rule in self.rules if rule.kinds != ("Embedding",)]
        weights = [weight for weight, activation in rules if weight is not None and activation is not None]
        inputs = [activation for _, activation in rules if activation is not None]
        weights = weights or [weight for weight, _ in rules if weight is not None]
        if not weights:
            return ""
        weight = reduce(or_, weights)
        shared = dict.fromkeys("group32" if name == "group" else name for name in weight.granularities)
        symmetry = [text for value, text in ((True, "sym"), (False, "asym")) if value in weight.symmetric]
        text, bits = f"w={_widths(weight)}:{','.join(shared)}:{','.join(symmetry)} a=", weight.bits
        if inputs:
            activation = reduce(or_, inputs)
            text += f"{_widths(activation)}:{'asym' if False in activation.symmetric else 'sym'}"
            bits &= activation.bits
        return f"{text}{'' if inputs else 'float'}{'' if MAX_BITS in bits else ' edge=none'}"

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
            raise ValueError(f"kinds = {kind!r}: {hint}there are {listed(KINDS)}")
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


def _widths(allowed: Allowed) -> str:
    low, *_, high = sorted([*allowed.bits, max(allowed.bits)])
    whole = high - low == len(allowed.bits) - 1 > 1
    return f"{low}-{high}" if whole else ",".join(map(str, sorted(allowed.bits)))
