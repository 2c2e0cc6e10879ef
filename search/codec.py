"""Data classes to plain JSON values and back, by the types of their fields; what does not fit is named by its key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np

from eqnet.errors import InputError
from eqnet.formats import MAX_BITS, MIN_BITS, Format
from eqnet.subnet import Subnet


def _number(value: Any) -> float:
    # Booleans are numbers to Python, and numpy's scalars are numbers to everyone.
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _integer(value: Any) -> int:
    _number(value)
    if int(value) != value:  # not compared as a float, which has no integers past 2^53
        raise ValueError
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


class _Scalar(NamedTuple):
    """A type that is written as one: its name in messages, how it is written, how it is read."""

    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_SCALARS: dict[Any, _Scalar] = {
    int: _Scalar("an integer", _integer, _integer),
    float: _Scalar("a finite number", _number, _number),
    str: _Scalar("a string", _text, _text),
    Format: _Scalar("a format", str, lambda value: Format.parse(_text(value))),
    Subnet: _Scalar("a subnet", Subnet.to_json, Subnet.from_json),
}

_WIDTHS = frozenset(map(str, range(MIN_BITS, MAX_BITS + 1)))
"""The keys of what is kept by width."""

LEFT_OUT = {"left out if None": True}
"""Metadata of a field that has no key while it is None, which is its default."""


def encode(kind: Any, value: Any, key: str = "") -> Any:
    """Turns a value into plain JSON values; the fields of a data class keep their order, other keys are sorted.

    Args:
        kind: its annotated type: a frozen data class, a scalar above, or a tuple, a mapping or ``| None`` of those.
        value: of that type.
        key: where it is in the whole, for messages.

    Raises:
        InputError: a value is of another type, infinite or NaN; the message names its key.
    """
    if kind in _SCALARS:
        return _converted(_SCALARS[kind], _SCALARS[kind].write, value, key)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return {
            f.name: encode(hints[f.name], getattr(value, f.name), _join(key, f.name))
            for f in fields(kind)
            if not (_may_miss(f) and getattr(value, f.name) is None)
        }
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):  # X | None
        return None if value is None else encode(arguments[0], value, key)
    if origin is tuple:
        return [encode(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value)]
    assert origin is Mapping, f"{kind} has no place in a result"
    return {str(name): encode(arguments[1], value[name], _join(key, str(name))) for name in sorted(value)}


def decode(kind: Any, value: Any, key: str = "") -> Any:
    """The inverse of ``encode``.

    Raises:
        InputError: a key is missing, unknown or of another type than annotated; the message names it.
    """
    if kind in _SCALARS:
        return _converted(_SCALARS[kind], _SCALARS[kind].read, value, key)
    if is_dataclass(kind):
        items = _object(value, key)
        hints = get_type_hints(kind)
        needed = [f.name for f in fields(kind) if not _may_miss(f)]
        missing, unknown = [name for name in needed if name not in items], sorted(set(items) - set(hints))
        if missing:
            raise InputError(f"key '{_join(key, missing[0])}' is missing")
        if unknown:
            raise InputError(f"key '{_join(key, unknown[0])}' is unknown; expected {', '.join(hints)}")
        make: Any = kind
        return make(**{name: decode(hints[name], item, _join(key, name)) for name, item in items.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        return None if value is None else decode(arguments[0], value, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"key '{key}': expected a list, got {_short(value)}")
        return tuple(decode(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    assert origin is Mapping, f"{kind} has no place in a result"
    items = _object(value, key)
    if arguments[0] is not int:
        return {name: decode(arguments[1], item, _join(key, name)) for name, item in items.items()}
    for name in items:
        if name not in _WIDTHS:
            raise InputError(f"key '{_join(key, name)}': expected a width from 2 to 8, got {_short(name)}")
    return {int(name): decode(arguments[1], item, _join(key, name)) for name, item in items.items()}


def _may_miss(of: Field[Any]) -> bool:
    return of.metadata.keys() >= LEFT_OUT.keys()


def _converted(scalar: _Scalar, convert: Callable[[Any], Any], value: Any, key: str) -> Any:
    try:
        return convert(value)
    except InputError as e:
        raise InputError(f"key '{key}': {e}") from e
    except (TypeError, ValueError, OverflowError) as e:
        raise InputError(f"key '{key}': expected {scalar.name}, got {_short(value)}") from e


def _object(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        where = f"key '{key}': expected" if key else "a result is"
        raise InputError(f"{where} an object, got {_short(value)}")
    return value


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
