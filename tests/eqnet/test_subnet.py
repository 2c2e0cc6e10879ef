"""Subnets as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eqnet import Format, Granularity, InputError, LayerFormat, Subnet

SUBNET = Subnet(
    {
        "stem.0": LayerFormat(Format(8, True, Granularity.CHANNEL), Format(8, False)),
        "body.fc": LayerFormat(Format(3, False, Granularity.GROUP, 32)),
    }
)


def test_the_file_says_what_it_means(tmp_path: Path) -> None:
    SUBNET.save(tmp_path / "subnet.json")
    assert json.loads((tmp_path / "subnet.json").read_text()) == {
        "stem.0": {"weight": "int8:channel", "activation": "uint8:tensor"},
        "body.fc": {"weight": "uint3:group32", "activation": None},
    }
    assert Subnet.load(tmp_path / "subnet.json") == SUBNET


def test_equal_subnets_hash_alike_in_any_order() -> None:
    other = Subnet(dict(reversed(list(SUBNET.items()))))
    assert other == SUBNET
    assert hash(other) == hash(SUBNET)
    assert list(other) == ["body.fc", "stem.0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a subnet"),
        ("[]", "got list"),
        ('{"fc": 4}', "layer 'fc'"),
        ('{"fc": {"weight": "int9:tensor", "activation": null}}', "layer 'fc'"),
        ('{"fc": {"weight": "int4:tensor"}}', "layer 'fc'"),
        ("\x00", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"fc": {"weight": "int4:tensor", "activation": 8}}', "layer 'fc'"),
        (f'{{"fc": {{"weight": "int{"4" * 5000}:tensor", "activation": null}}}}', "layer 'fc'"),
    ],
    ids=["cut off", "a list", "a number", "nine bits", "no key", "binary", "too deep", "a width", "too long"],
)
def test_what_is_no_subnet_is_refused_with_the_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "subnet.json"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        Subnet.load(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.json"):
        Subnet.load(tmp_path / "nothing.json")
