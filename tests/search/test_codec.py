"""Data classes as JSON, whatever their fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from eqnet import Format, InputError
from eqnet.search.codec import decode, encode


@dataclass(frozen=True)
class Inner:
    count: int
    share: float | None


@dataclass(frozen=True)
class Outer:
    name: str
    fmt: Format
    many: tuple[Inner, ...]
    by_width: Mapping[int, Inner]
    named: Mapping[str, float] = field(default_factory=dict)


OUTER = Outer("é", Format(4, False), (Inner(1, None), Inner(2, 0.5)), {8: Inner(3, 1.0), 2: Inner(4, -1.0)}, {"b": 1.0})
JSON = {
    "name": "é",
    "fmt": "uint4:tensor",
    "many": [{"count": 1, "share": None}, {"count": 2, "share": 0.5}],
    "by_width": {"2": {"count": 4, "share": -1.0}, "8": {"count": 3, "share": 1.0}},
    "named": {"b": 1.0},
}


def test_nested_classes_are_written_and_read() -> None:
    assert encode(Outer, OUTER) == JSON
    assert list(encode(Outer, OUTER)["by_width"]) == ["2", "8"]
    assert decode(Outer, json.loads(json.dumps(JSON))) == OUTER


@pytest.mark.parametrize("count", [2**53 + 1, 2**63 - 1, -(10**30)], ids=str)
def test_integers_that_no_float_holds_stay_exact(count: int) -> None:
    written = json.dumps(encode(Inner, Inner(count, None)))
    assert decode(Inner, json.loads(written)).count == count


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["many", 1, "count"], 1.5, r"key 'many\[1\]\.count': expected an integer, got 1\.5"),
        (["many", 1, "count"], float("inf"), r"key 'many\[1\]\.count': expected an integer, got inf"),
        (["many", 0], None, r"key 'many\[0\]': expected an object, got None"),
        (["by_width", "8", "more"], 1, r"key 'by_width\.8\.more' is unknown; expected count, share"),
        (["by_width", "08"], {}, r"key 'by_width\.08': expected a width from 2 to 8"),
        (["fmt"], "uint4", "key 'fmt': .*uint4"),
        (["name"], "x" * 100, None),
        (["named"], "x" * 100, r"key 'named': expected an object, got 'x{56}\.\.\.$"),
    ],
)
def test_what_does_not_fit_is_named_by_its_key(path: list[Any], value: Any, message: str | None) -> None:
    data = json.loads(json.dumps(JSON))
    parent = data
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    if message is None:
        assert decode(Outer, data).name == value
        return
    with pytest.raises(InputError, match=message):
        decode(Outer, data)


def test_what_is_not_finite_is_not_written() -> None:
    with pytest.raises(InputError, match="key 'share': expected a finite number, got nan"):
        encode(Inner, Inner(1, float("nan")))
