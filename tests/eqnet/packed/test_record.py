"""Records as JSON, and refusals of what is none."""

from __future__ import annotations

import json

import pytest

from eqnet import Format, InputError
from eqnet.packed.record import LayerRecord, Record

LAYER = LayerRecord("Conv2d", Format.parse("uint3:group16"), Format.parse("uint8:tensor"), (4, 2, 3, 3), "bfloat16")
RECORD = Record(
    {"conv": LAYER, "fc": LayerRecord("Linear", Format.parse("int4:channel"), None, (3, 5), "float32")},
    folded={"norm": "conv"},
    affine=("last",),
    remade={"rotary.frequencies": "float32"},
    metadata={"accuracy": 0.5},
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert Record.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD
    assert LAYER.to_json() == {
        "kind": "Conv2d",
        "weight": "uint3:group16",
        "input": "uint8:tensor",
        "shape": [4, 2, 3, 3],
        "dtype": "bfloat16",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "\x1b[2J"},
        {"dtype": "int8"},
        {"shape": [4, 0]},
        {"shape": [4, True]},
        {"kind": 3},
        {"input": 8},
        {"weight": "int9:tensor"},
    ],
    ids=str,
)
def test_a_layer_that_is_none_is_named(change: dict[str, object]) -> None:
    data = RECORD.to_json()
    data["layers"]["conv"] |= change
    with pytest.raises(InputError, match="layer 'conv': "):
        Record.from_json(data)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {**RECORD.to_json(), "folded": {"norm": 1}},
        {**RECORD.to_json(), "affine": ["\x1b[2J"]},
        {**RECORD.to_json(), "remade": {"rotary.frequencies": "int8"}},
        {"layers": {}},
    ],
    ids=str,
)
def test_what_is_no_record_is_refused(data: object) -> None:
    with pytest.raises(InputError, match="expected 'layers', 'folded', 'affine', 'remade' and 'metadata'"):
        Record.from_json(data)
