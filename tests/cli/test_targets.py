"""``eqnet targets``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import Command

CHIP = """
title = "Our camera's chip"
fast = "4-bit weights"
source = "its data sheet, chapter 7"

[weight]
bits = [4, 8]
granularity = ["channel", "group64", "group8"]
symmetric = [true]

[activation]
bits = [6, 7, 8]
symmetric = [false]

[[layer]]
kinds = ["depthwise"]
weight = { bits = [8] }
activation = { bits = [8] }
float_activation = true

[[layer]]
kinds = ["depthwise"]
weight = { bits = [2], granularity = ["tensor", "channel", "group"] }

[[layer]]
kinds = ["Conv3d"]
runs = false
"""
SHOWN = """\
chip: Our camera's chip
  all other layers: weights of 4 or 8 bits, per channel or group of 8 or 64 weights, symmetric; inputs of 6–8
    bits, per tensor, asymmetric
  depthwise: weights of 8 bits, per tensor, symmetric or asymmetric; inputs of 8 bits, per tensor, symmetric
    or asymmetric, or in floating point
  or: weights of 2 bits, per tensor, channel or group of any size, symmetric or asymmetric; inputs in floating
    point
  Conv3d: do not run quantized
  fast: 4-bit weights
  search: --space 'w=4,8:tensor,channel,group8,group64:sym,asym a=6-8:asym'
  source: its data sheet, chapter 7
"""


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    path = tmp_path / "chip.toml"
    path.write_text(CHIP)
    return path


def test_every_target_is_told_on_lines_that_fit(eqnet: Command) -> None:
    listed = json.loads(eqnet("targets", "--json").out)
    told = eqnet("targets").out
    for target in listed:
        assert f"{target['name']}: {target['title']}" in told
        assert all(f"{source}\n" in told for source in target["source"])
        assert " ".join(target["fast"].split()) in " ".join(told.split())
    assert max(len(line) for line in told.splitlines() if "https://" not in line) <= 110


def test_one_is_told_with_its_table(eqnet: Command, chip: Path) -> None:
    ended = eqnet("targets", chip)
    assert ended.out == f"{SHOWN}\n{chip}:\n\n{CHIP.rstrip()}\n"
    assert "tensorrt: NVIDIA TensorRT" in eqnet("targets", "tensorrt").out


def test_json_has_all_of_a_table(eqnet: Command, chip: Path) -> None:
    found = json.loads(eqnet("targets", chip, "--json").out)
    rules = found.pop("rules")
    assert found == {
        "name": "chip",
        "title": "Our camera's chip",
        "fast": "4-bit weights",
        "space": "w=4,8:tensor,channel,group8,group64:sym,asym a=6-8:asym",
        "source": ["its data sheet, chapter 7"],
    }
    assert [(rule["kinds"], rule["runs"], rule["float_activation"]) for rule in rules] == [
        ([], True, False),
        (["depthwise"], True, True),
        (["depthwise"], True, True),
        (["Conv3d"], False, False),
    ]
    assert rules[0]["weight"] == {"bits": [4, 8], "granularity": ["channel", "group8", "group64"], "symmetric": [True]}
    assert rules[0]["activation"] == {"bits": [6, 7, 8], "granularity": ["tensor"], "symmetric": [False]}
    assert rules[2]["activation"] is rules[3]["weight"] is None


def test_what_is_no_target_is_refused(eqnet: Command, chip: Path) -> None:
    ended = eqnet("targets", "tensort")
    assert ended.status == 2
    assert "did you mean 'tensorrt'? there are compressed-tensors, eqnet, gguf, onnxruntime," in ended.err
    ended = eqnet("targets", chip.with_name("chop.toml"))
    assert ended.status == 2
    assert "chop.toml: cannot be read as a target" in ended.err
    chip.write_text(CHIP.replace("kinds", "kind", 1))
    ended = eqnet("targets", chip, "--json")
    assert ended.status == 2
    assert f"{chip}: [[layer]] 1: unknown key 'kind'" in ended.err
