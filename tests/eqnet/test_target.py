"""What an engine runs, and how it says what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqnet import Choices, Format, Granularity, InputError, LayerFormat, Target
from eqnet.layers.base import ELASTIC
from eqnet.space import ElasticSpace, Layer, TiedSet
from eqnet.target_rules import KINDS

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


BY_KIND = """
title = "A chip"
[[layer]]
weight = { bits = [8] }
activation = { bits = [8] }
[[layer]]
kinds = ["Conv1d", "Conv2d"]
weight = { bits = [2, 4, 8] }
activation = { bits = [8] }
[[layer]]
kinds = ["depthwise"]
weight = { bits = [8], granularity = ["channel"] }
activation = { bits = [8] }
float_activation = true
[[layer]]
kinds = ["Linear"]
weight = { bits = [8] }
activation = { bits = [8] }
[[layer]]
kinds = ["Linear"]
weight = { bits = [4], granularity = ["group64", "group"], symmetric = [true] }
[[layer]]
kinds = ["Conv3d"]
runs = false
"""
DEPTHWISE = Layer("body.depth", "Conv2d", 4, 9, 36, 9, depthwise=True)
LINEAR = Layer("head", "Linear", 4, 64, 256, 64)


@pytest.mark.parametrize(
    ("layer", "fmt", "reason"),
    [
        (CONV, "int2:tensor × uint8:tensor", None),
        (DEPTHWISE, "int2:tensor × uint8:tensor", "2 bits are not among 8"),
        (DEPTHWISE, "int8:channel × float", None),
        (CONV, "int8:tensor × float", "'body.conv' with a floating-point input"),
        (Layer("up", "ConvTranspose2d", 4, 9, 36, 9), "int4:tensor × uint8:tensor", "4 bits are not among 8"),
        (Layer("up", "ConvTranspose2d", 4, 9, 36, 9), "int8:tensor × uint8:tensor", None),
        (Layer("video", "Conv3d", 4, 27, 36, 9), "int8:tensor × uint8:tensor", "'video': it has no quantized Conv3d"),
        (LINEAR, "int8:tensor × uint8:tensor", None),
        (LINEAR, "int4:group24 × float", None),
        # Each way alone forbids these; what is told is of the way that they come closer to.
        (LINEAR, "int8:tensor × float", "'head' with a floating-point input"),
        (LINEAR, "int4:group64 × uint8:tensor", "'head' with a quantized input"),
        (LINEAR, "int4:channel × uint8:tensor", "granularity 'channel' is not among group, group64"),
        (LINEAR, "uint4:group64 × float", "it has to be symmetric"),
    ],
    ids=str,
)
def test_rules_of_a_kind_replace_the_general_ones(tmp_path: Path, layer: Layer, fmt: str, reason: str | None) -> None:
    weight, activation = fmt.split(" × ")
    asked = LayerFormat(Format.parse(weight), Format.parse(activation) if activation != "float" else None)
    found = Target.load(written(tmp_path, BY_KIND)).why_not(layer, asked)
    assert found is None if reason is None else found is not None and reason in found


def test_without_general_rules_no_other_kind_runs(tmp_path: Path) -> None:
    target = Target.load(written(tmp_path, BY_KIND.replace("[[layer]]", '[[layer]]\nkinds = ["Embedding"]', 1)))
    fmt = LayerFormat(Format(8), Format(8, False))
    assert target.why_not(Layer("up", "ConvTranspose1d", 4, 9, 36, 9), fmt) == (
        "chip does not run 'up': it has no quantized ConvTranspose1d"
    )
    assert target.why_not(EMBEDDING, LayerFormat(Format(8))) is None


@pytest.mark.parametrize(
    ("granularity", "runs"), [("tensor", {"tensor"}), ("channel", {"channel", "folded tensor", "folded channel"})]
)
def test_the_weight_is_judged_as_it_is_stored(tmp_path: Path, granularity: str, runs: set[str]) -> None:
    text = GOOD.replace('"channel", "group32"', f'"{granularity}"')
    target = Target.load(written(tmp_path, text))
    found = {}
    for folded in ("", "folded "):
        layer = Layer("conv", "Conv2d", 4, 9, 36, 9, folded=bool(folded))
        for asked in (Granularity.TENSOR, Granularity.CHANNEL):
            fmt = LayerFormat(Format(8, True, asked), Format(8, False))
            found[folded + asked.value] = target.why_not(layer, fmt)
    assert {name for name, reason in found.items() if reason is None} == runs
    if granularity == "tensor":
        assert "in int8:tensor (stored as int8:channel, as it takes in a batch norm)" in str(found["folded tensor"])


@pytest.mark.parametrize(
    ("table", "space"),
    [
        (GOOD, "w=4,8:channel,group32:sym a=8:asym"),
        (GOOD.partition("[activation]")[0], "w=4,8:channel,group32:sym a=float"),
        (GOOD.replace("bits = [8]", "bits = [5, 4, 6]"), "w=4,8:channel,group32:sym a=4-6:asym edge=none"),
        # What is weight-only, or about embeddings, is left out where the rest runs on integers.
        (BY_KIND, "w=2,4,8:tensor,channel:sym,asym a=8:asym"),
        (GOOD + '[[layer]]\nkinds = ["Embedding"]\nweight = { bits = [2] }', "w=4,8:channel,group32:sym a=8:asym"),
        ('title = ""\n[weight]\nbits = [2]\ngranularity = ["group", "group32"]\nsymmetric = [false]',
         "w=2:group32:asym a=float edge=none"),
        ('title = ""\n[[layer]]\nkinds = ["Linear"]\nruns = false', ""),
    ],
)  # fmt: skip
def test_a_space_to_search_in_is_told(tmp_path: Path, table: str, space: str) -> None:
    target = Target.load(written(tmp_path, table))
    assert target.space == space
    if space:
        assert Choices.parse(space).formats(edge=True)


def test_a_space_in_which_nothing_runs_is_refused_with_one_that_has_more(tmp_path: Path) -> None:
    def space(text: str) -> ElasticSpace:
        return ElasticSpace((TiedSet((LINEAR,), Choices.parse(text).formats()),))

    target = Target.load(written(tmp_path, GOOD))
    with pytest.raises(InputError) as raised:
        target.restrict(space("w=4:channel:sym a=7:asym"))
    assert str(raised.value) == (
        "layer 'head': none of its 1 formats is allowed (chip does not run the input of 'head' in uint7:tensor: 7 bits "
        "are not among 8); widen the space, such as to --space 'w=4,8:channel,group32:sym a=8:asym'"
    )
    left = target.restrict(space("w=3-5:tensor,channel:sym,asym a=7,8:asym"))
    assert [str(choice) for choice in left.sets[0].choices] == ["int4:channel × uint8:tensor"]


def test_kinds_are_those_that_become_elastic() -> None:
    assert sorted(KINDS) == sorted([*(module.__name__ for module in ELASTIC), "depthwise"])


def test_sources_and_what_is_fast_are_kept(tmp_path: Path) -> None:
    assert Target.load(written(tmp_path, GOOD)).source == ()
    text = 'source = "the manual"\nfast = "8 bits"' + GOOD
    target = Target.load(written(tmp_path, text))
    assert (target.source, target.fast) == (("the manual",), "8 bits")
    target = Target.load(written(tmp_path, 'name = "my chip"\nsource = ["page 1", "page 2"]' + GOOD))
    assert (target.name, target.source) == ("my chip", ("page 1", "page 2"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"Conv1d"', '"Conv1D"', "[[layer]] 2: kinds = 'Conv1D': did you mean Conv1d? there are Linear, Embedding"),
        ("runs = false", "run = false", "[[layer]] 6: unknown key 'run'"),
        ("runs = false", 'runs = "no"', "[[layer]] 6: 'no': expected true or false"),
        ("runs = false", "runs = false\nfloat_activation = true", "[[layer]] 6: runs = false goes with kinds"),
        ("runs = false", "", "[[layer]] 6: the key 'weight' is missing"),
        ("{ bits = [8] }", "8", "[[layer]] 1: weight = 8: expected a table"),
        ("bits = [2, 4, 8]", "bits = 4", "[[layer]] 2: bits = 4: expected a list"),
        ("bits = [2, 4, 8]", "bits = [2, 4.0]", "[[layer]] 2: bits = [2, 4.0]: expected widths"),
        ("bits = [2, 4, 8]", "bits = [2], symetric = [true]", "[[layer]] 2: unknown key 'symetric'"),
        ('["group64", "group"]', "[]", "[[layer]] 5: granularity and symmetric: expected at least one value"),
        ('["group64", "group"]', "[64]", "[[layer]] 5: 64: expected a text in quotes"),
        ('["group64", "group"]', '"group64"', "[[layer]] 5: granularity = 'group64': expected a list"),
        ('title = "A chip"', 'title = "A chip"\nfloat_activation = true', "the key 'weight' is missing"),
        ('title = "A chip"', "title = 4", "4: expected a text in quotes"),
        ('title = "A chip"', 'title = "A chip"\nsource = [1]', "1: expected a text in quotes"),
    ],
)
def test_a_wrong_table_of_kinds_is_refused_with_its_number(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path, BY_KIND.replace(old, new, 1))
    with pytest.raises(InputError) as raised:
        Target.load(path)
    assert str(raised.value).startswith(f"{path}: {message}")


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
