"""What an engine runs, and how it says what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqnet import Format, Granularity, InputError, LayerFormat, Target
from eqnet.space import Layer

CONV = Layer("body.conv", "Conv2d", 4, 9, 36, 9)
EMBEDDING = Layer("embed", "Embedding", 10, 4, 0, 1)
GOOD = """
title = "A chip"
[weight]
bits = [4, 8]
granularity = ["channel", "group32"]
symmetric = [true]
[activation]
bits = [8]
symmetric = [false]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "chip.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("weight", "activation", "reason"),
    [
        (Format(4, True, Granularity.CHANNEL), Format(8, False), None),
        (Format(8, True, Granularity.GROUP, 32), Format(8, False), None),
        (Format(3, True, Granularity.CHANNEL), Format(8, False), "the weight of 'body.conv' in int3:channel: 3 bits"),
        (Format(4, True), Format(8, False), "granularity 'tensor' is not among channel, group32"),
        (Format(4, True, Granularity.GROUP, 64), Format(8, False), "granularity 'group64'"),
        (Format(4, False, Granularity.CHANNEL), Format(8, False), "it has to be symmetric"),
        (Format(4, True, Granularity.CHANNEL), Format(8, True), "the input of 'body.conv' in int8:tensor: it has"),
        (Format(4, True, Granularity.CHANNEL), Format(4, False), "4 bits are not among 8"),
        (Format(4, True, Granularity.CHANNEL), None, "with a floating-point input"),
    ],
)  # fmt: skip
def test_the_first_broken_rule_is_named(
    tmp_path: Path, weight: Format, activation: Format | None, reason: str | None
) -> None:
    found = Target.load(written(tmp_path, GOOD)).why_not(CONV, LayerFormat(weight, activation))
    assert found is None if reason is None else found is not None and found.startswith("chip ") and reason in found


def test_embeddings_have_no_input_to_quantize(tmp_path: Path) -> None:
    target = Target.load(written(tmp_path, GOOD))
    assert target.why_not(EMBEDDING, LayerFormat(Format(4, True, Granularity.CHANNEL))) is None


def test_weight_only_engines_take_no_quantized_input(tmp_path: Path) -> None:
    target = Target.load(written(tmp_path, GOOD.partition("[activation]")[0]))
    fmt = Format(4, True, Granularity.CHANNEL)
    assert target.why_not(CONV, LayerFormat(fmt)) is None
    assert "with a quantized input" in str(target.why_not(CONV, LayerFormat(fmt, Format(8, False))))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "titel", "unknown key 'titel'"),
        ('title = "A chip"', "", "the key 'title' is missing"),
        ("bits = [4, 8]", "", "the key 'bits' is missing"),
        ("bits = [4, 8]", "bits = [1, 8]", "expected widths from 2 to 8"),
        ("bits = [4, 8]", 'bits = ["4"]', "expected widths from 2 to 8"),
        ("bits = [4, 8]", "bits = []", "expected widths from 2 to 8"),
        ("group32", "row", "granularity 'row'"),
        ("[true]", '["yes"]', "'yes': expected true or false"),
        ("symmetric = [true]", "symetric = [true]", "unknown key 'symetric'"),
        ("[weight]", "[weight", "cannot be read as a target"),
    ],
)
def test_a_wrong_table_is_refused_with_the_file_and_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(InputError) as raised:
        Target.load(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.toml"):
        Target.load(tmp_path / "nothing.toml")
