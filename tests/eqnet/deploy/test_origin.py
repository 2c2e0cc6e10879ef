"""What an artifact says of itself."""

from __future__ import annotations

import json

import pytest
import torch

from eqnet.deploy.origin import Origin
from eqnet.errors import InputError
from eqnet.tasks import Normalization

ORIGIN = Origin(
    "./own.py:cats", "cats", 3, (3, 8, 9), torch.float32, Normalization((0.5, 0.4, 0.3), (0.2,)), {"test": 0.875}
)


@pytest.mark.parametrize("origin", [ORIGIN, Origin("digits", "digits", 0, (), torch.int64)], ids=["images", "scalars"])
def test_is_read_as_it_was_written(origin: Origin) -> None:
    assert Origin.from_json(json.loads(json.dumps(origin.to_json()))) == origin


def test_other_metadata_says_nothing() -> None:
    assert Origin.from_json({}) is None
    assert Origin.from_json({"author": "me"}) is None


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("task", {"spec": "a\x1b[2Jb", "name": "b", "seed": 0}),
        ("task", {"spec": "digits", "name": "digits"}),
        ("task", {"spec": "digits", "name": "digits", "seed": -1}),
        ("input", {"shape": [1 << 20, 1 << 20], "dtype": "float32", "normalization": None}),
        ("input", {"shape": [-1], "dtype": "float32", "normalization": None}),
        ("input", {"shape": [True], "dtype": "float32", "normalization": None}),
        ("input", {"shape": [1], "dtype": "complex64", "normalization": None}),
        ("input", {"shape": [1], "dtype": "float32", "normalization": {"mean": [0.5], "std": [0.0]}}),
        ("input", {"shape": [1], "dtype": "float32", "normalization": {"mean": [0.5]}}),
        ("input", {"shape": [1], "dtype": "float32", "normalization": {"mean": ["a"], "std": [1]}}),
        ("accuracy", {"test": float("nan")}),
        ("accuracy", {"train": 0.5}),
        ("accuracy", [0.5]),
    ],
    ids=str,
)
def test_damaged_metadata_are_refused(part: str, value: object) -> None:
    with pytest.raises(InputError):
        Origin.from_json(ORIGIN.to_json() | {part: value})
