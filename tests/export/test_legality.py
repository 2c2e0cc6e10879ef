"""Which layers a target does not run, and the nearest network that it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eqnet import Choices, Format, InputError, LayerFormat, Subnet, Target
from eqnet.export.legality import Violation, illegal, nearest, require_legal
from eqnet.export.targets import load_target
from eqnet.space import ElasticSpace, Layer, TiedSet
from tests.search.small import every_gene, space

CHIP = """
title = "A chip"
[weight]
bits = {bits}
granularity = {granularity}
symmetric = {symmetric}
[activation]
bits = {activation}
"""
CONV = Layer("conv", "Conv2d", rows=6, cols=27, macs=1, inputs=1, has_bias=True, folded=True)
LINEAR = Layer("linear", "Linear", rows=5, cols=12, macs=1, inputs=1)
HEAD = Layer("head", "Linear", rows=3, cols=5, macs=1, inputs=1)


def chip(
    folder: Path, bits: str, granularity: str, symmetric: str = "[true, false]", activation: str = "[8]"
) -> Target:
    path = folder / "chip.toml"
    path.write_text(CHIP.format(bits=bits, granularity=granularity, symmetric=symmetric, activation=activation))
    return Target.load(path)


def formats(text: str) -> LayerFormat:
    weight, activation = text.split("×")
    return LayerFormat(Format.parse(weight), Format.parse(f"{activation}:tensor") if activation != "float" else None)


def stored(layer: Layer, fmt: Format) -> tuple[int, int]:
    """Number of scales, and bytes of everything stored, with planes of 4, 2 and 1 bits that end in whole bytes."""

    def codes(count: int) -> int:
        return sum(-(-count * plane // 8) for plane in (8, 4, 2, 1) if fmt.bits & plane)

    tensor = fmt.granularity.value == "tensor" and not layer.folded
    scales = {
        (0, 0) if tensor else (row, column // fmt.group_size if fmt.group_size else 0)
        for row in range(layer.rows)
        for column in range(layer.cols)
    }
    zero_points = 0 if fmt.symmetric else codes(len(scales))
    return len(scales), codes(layer.rows * layer.cols) + 4 * len(scales) + zero_points


def departure(of: ElasticSpace, given: Mapping[str, LayerFormat], taken: Mapping[str, LayerFormat]) -> tuple[int, ...]:
    """What the nearest network has the least of: changed sets, bits given up, scales given up, more bytes."""
    changed = sum(any(given[x.name] != taken[x.name] for x in tied.layers) for tied in of.sets)
    bits = scales = more = 0
    for layer in of.layers:
        a, b = given[layer.name], taken[layer.name]
        assert a.activation is not None
        assert b.activation is not None
        bits += max(0, a.weight.bits - b.weight.bits) + max(0, a.activation.bits - b.activation.bits)
        before, after = stored(layer, a.weight), stored(layer, b.weight)
        scales += max(0, before[0] - after[0])
        more += max(0, after[1] - before[1])
    return changed, bits, scales, more


LAYERS = (LINEAR, CONV, HEAD)


@pytest.mark.parametrize(
    ("bits", "granularity", "symmetric", "activation"),
    [
        ("[4, 8]", '["tensor", "channel"]', "[true]", "[8]"),
        ("[3, 8]", '["channel"]', "[true, false]", "[4, 8]"),
        ("[2]", '["tensor", "channel"]', "[false]", "[4]"),
        ("[8]", '["channel", "group"]', "[true]", "[8]"),
    ],
)
def test_nearest_is_the_best_of_all_networks(
    tmp_path: Path, bits: str, granularity: str, symmetric: str, activation: str
) -> None:
    target = chip(tmp_path, bits, granularity, symmetric, activation)
    choices = Choices.parse("w=2,3,4,8:tensor,channel,group2:sym,asym a=4,8:asym edge=none").formats()
    rng, compared = np.random.default_rng(0), 0
    for _ in range(12):
        drawn = [tuple(choices[i] for i in rng.choice(len(choices), 12, replace=False)) for _ in range(2)]
        of = ElasticSpace((TiedSet(LAYERS[:2], drawn[0]), TiedSet(LAYERS[2:], drawn[1])))
        everything = [of.subnet(genes) for genes in every_gene(of)]
        legal = [subnet for subnet in everything if not illegal(target, of.layers, subnet)]
        for given in [everything[i] for i in rng.choice(len(everything), 8, replace=False)]:
            if not legal:
                with pytest.raises(InputError, match="widen the space"):
                    nearest(target, of, given)
                continue
            found, compared = nearest(target, of, given), compared + 1
            assert found in legal
            assert departure(of, given, found) == min(departure(of, given, subnet) for subnet in legal)
            if given in legal:
                assert found == given
    assert compared >= 8


@pytest.mark.parametrize(
    ("given", "bits", "granularity", "symmetric", "expected"),
    [
        # No bits are given up where they need not be, and as few as can be are added.
        ("int3:channel×uint8", "[2, 4, 8]", '["tensor", "channel"]', "[true, false]", "int4:channel×uint8"),
        ("uint5:channel×uint8", "[2, 3, 4]", '["tensor", "channel"]', "[true, false]", "uint4:channel×uint8"),
        ("int4:channel×uint3", "[4]", '["channel"]', "[true]", "int4:channel×uint4"),
        ("int4:channel×uint6", "[4]", '["channel"]', "[true]", "int4:channel×uint8"),
        # Nor are scales, though one for the tensor would be smaller; if they have to be, then as few as can be.
        ("int4:channel×uint8", "[4]", '["tensor", "group4"]', "[true]", "int4:group4×uint8"),
        ("int4:group4×uint8", "[4]", '["tensor", "channel"]', "[true]", "int4:channel×uint8"),
        # Bytes come before symmetry: zero points take some.
        ("int4:channel×uint8", "[8]", '["tensor", "channel"]', "[true, false]", "int8:channel×uint8"),
        ("uint4:channel×uint8", "[4]", '["tensor", "channel"]', "[true]", "int4:channel×uint8"),
        ("uint2:tensor×uint8", "[3]", '["tensor"]', "[true, false]", "int3:tensor×uint8"),
    ],
)
def test_what_counts_as_near(
    tmp_path: Path, given: str, bits: str, granularity: str, symmetric: str, expected: str
) -> None:
    target = chip(tmp_path, bits, granularity, symmetric, "[2, 4, 8]")
    of = space("w=2-8:tensor,channel,group4:sym,asym a=2-8:asym edge=none", LINEAR)
    backwards = replace(of, sets=(replace(of.sets[0], choices=of.sets[0].choices[::-1]),))
    for order in (of, backwards):
        assert nearest(target, order, {"linear": formats(given)})["linear"] == formats(expected)


def test_tied_sets_move_together_and_embeddings_keep_their_inputs(tmp_path: Path) -> None:
    words = Layer("words", "Embedding", 10, 12, 0, 1)
    choices = Choices.parse("w=3,4:tensor,channel:sym a=4,8:asym edge=none").formats()
    of = ElasticSpace((TiedSet((words, LINEAR), choices), TiedSet((HEAD,), choices)), weight_only=frozenset({"words"}))
    given = {
        "words": formats("int3:channel×float"),
        "linear": formats("int3:channel×uint4"),
        "head": formats("int4:tensor×uint8"),
    }
    found = nearest(chip(tmp_path, "[4]", '["tensor", "channel"]'), of, given)
    assert found == {
        "words": formats("int4:channel×float"),
        "linear": formats("int4:channel×uint8"),
        "head": formats("int4:tensor×uint8"),
    }


def test_a_layer_that_takes_in_a_batch_norm_is_what_it_stores(tmp_path: Path) -> None:
    of = space("w=4,8:tensor,channel:sym a=8:asym edge=none", CONV, replace(CONV, name="plain", folded=False))
    target = chip(tmp_path, "[4, 8]", '["channel"]')
    given = dict.fromkeys(("conv", "plain"), formats("int4:tensor×uint8"))
    assert [violation.layer for violation in illegal(target, of.layers, given)] == ["plain"]
    assert nearest(target, of, given) == {**given, "plain": formats("int4:channel×uint8")}
    channels = dict.fromkeys(("conv", "plain"), formats("int4:channel×uint8"))
    assert nearest(target, of, channels) == channels
    widened = nearest(chip(tmp_path, "[8]", '["tensor", "channel"]'), of, {**given, **channels})
    assert widened["conv"] == formats("int8:channel×uint8"), "what was asked for decides between what is stored alike"
    few = tuple(map(formats, ("int3:channel×uint8", "int4:group9×uint8", "int4:tensor×uint8")))
    found = nearest(
        chip(tmp_path, "[4]", '["channel", "group9"]'), ElasticSpace((TiedSet((CONV,), few),)), {"conv": few[0]}
    )
    assert found == {"conv": few[2]}, "it is stored with a scale for each channel, as before"


def test_violations_are_in_the_order_of_the_layers_with_their_rules() -> None:
    of = space("w=2-8:channel:sym a=8:asym edge=none", CONV, LINEAR, HEAD)
    subnet = dict(zip(("conv", "linear", "head"), map(formats, ["int3:channel×uint8"] * 3), strict=True))
    subnet["linear"] = formats("int4:channel×uint8")
    target = load_target("onnxruntime")
    assert illegal(target, of.layers, subnet) == tuple(
        Violation(
            name,
            formats("int3:channel×uint8"),
            f"onnxruntime does not run the weight of '{name}' in int3:channel: 3 bits are not among 2, 4, 8",
        )
        for name in ("conv", "head")
    )


def _chain(count: int, text: str = "w=3,4:channel:sym a=8:asym edge=none") -> ElasticSpace:
    return space(text, *(replace(LINEAR, name=f"layer{i}") for i in range(count)))


def _uniform(of: ElasticSpace, text: str) -> Subnet:
    return Subnet({layer.name: formats(text) for layer in of.layers})


def test_what_runs_is_required_without_a_word_or_a_file(tmp_path: Path) -> None:
    of = _chain(3)
    require_legal(load_target("onnxruntime"), of, _uniform(of, "int4:channel×uint8"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "spelled"), [(1, 1), (5, 5), (8, 5)])
def test_the_error_names_layers_and_rules_and_leaves_the_nearest(tmp_path: Path, count: int, spelled: int) -> None:
    of, folder = _chain(count), tmp_path / "my run"
    with pytest.raises(InputError) as raised:
        require_legal(load_target("onnxruntime"), of, _uniform(of, "int3:channel×uint8"), folder)
    first, *rules, last = str(raised.value).splitlines()
    assert first == f"onnxruntime does not run {count} of {count} layers in these formats:"
    assert rules[:spelled] == [
        f"  the weight of 'layer{i}' in int3:channel: 3 bits are not among 2, 4, 8" for i in range(spelled)
    ]
    assert rules[spelled:] == ([f"  and {count - spelled} more"] if count > spelled else [])
    path = folder / "subnet-onnxruntime.json"
    assert last == f"The nearest network that it runs is in {path}: give --subnet '{path}'"
    assert Subnet.load(path) == _uniform(of, "int4:channel×uint8")


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    of = _chain(2)
    with pytest.raises(InputError, match=r"eqnet search --target\) proposes nothing but what it runs$"):
        require_legal(load_target("onnxruntime"), of, _uniform(of, "int3:channel×uint8"), None)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_file_name_and_a_folder_that_is_none(tmp_path: Path) -> None:
    of = _chain(1)
    target = replace(load_target("onnxruntime"), name="our/chip 2")
    with pytest.raises(InputError, match=r"subnet-our-chip-2\.json: give --subnet"):
        require_legal(target, of, _uniform(of, "int3:channel×uint8"), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"'layer0' in int3:channel.*\n.*could not be kept: .*file"):
        require_legal(target, of, _uniform(of, "int3:channel×uint8"), tmp_path / "file")


def test_a_space_without_anything_that_runs_is_named_with_its_layer(tmp_path: Path) -> None:
    of = _chain(2, "w=3,5:channel:sym a=8:asym edge=none")
    with pytest.raises(InputError, match=r"No network of this elastic space runs there: layer 'layer0': none of its 2"):
        require_legal(load_target("onnxruntime"), of, _uniform(of, "int3:channel×uint8"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_subnet_of_another_space_is_refused() -> None:
    of = _chain(2)
    with pytest.raises(InputError, match="outside the elastic space"):
        nearest(load_target("onnxruntime"), of, _uniform(of, "int7:channel×uint8"))
