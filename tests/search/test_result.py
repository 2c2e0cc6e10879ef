"""Tests of ``eqnet.search.result``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqnet.errors import InputError, RunError
from eqnet.search.result import SCHEMA, SearchResult, SearchSummary
from tests.search.report_data import make_report_data

KEYS = [
    "schema",
    "task",
    "budget",
    "subnet",
    "cost",
    "accuracy",
    "quality",
    "predictor",
    "layers",
    "front",
    "search",
    "seed",
    "versions",
]


@pytest.fixture
def result() -> SearchResult:
    return make_report_data(5).result


@pytest.mark.parametrize("weight_only", [False, True], ids=["activations", "weight only"])
@pytest.mark.parametrize("sensitive", [False, True], ids=["no sensitivity", "sensitivity"])
def test_a_saved_result_loads_as_it_was(tmp_path: Path, weight_only: bool, sensitive: bool) -> None:
    saved = make_report_data(3, weight_only=weight_only, sensitive=sensitive).result
    saved.save(tmp_path / "result.json")
    loaded = SearchResult.load(tmp_path / "result.json")
    assert loaded == saved
    assert list(loaded.subnet) == list(saved.subnet)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "result.json").read_bytes()


def test_keys_come_in_the_documented_order(result: SearchResult) -> None:
    data = result.to_json()
    assert list(data) == KEYS
    assert data["schema"] == SCHEMA
    assert list(data["accuracy"]["uniform"]) == ["2", "3", "4", "5", "6", "7", "8"]
    assert list(data["versions"]) == ["eqnet", "numpy", "python", "torch"]
    assert data["subnet"]["conv1"] == result.subnet["conv1"].to_json()
    assert list(data["layers"][0]) == [
        "name",
        "kind",
        "weights",
        "weight_format",
        "activation_format",
        "bytes",
        "sensitivity",
    ]


def test_the_same_result_writes_the_same_bytes_however_it_was_built(tmp_path: Path, result: SearchResult) -> None:
    cost = result.cost
    values: dict[str, Any] = {
        "code_bits": np.float64(cost.code_bits),
        "bytes": np.int64(cost.bytes),
        "bops": float(cost.bops),
    }
    numpy_cost = replace(cost, **values)
    other = replace(
        result,
        cost=numpy_cost,
        versions=dict(reversed(list(result.versions.items()))),
        accuracy=replace(result.accuracy, uniform=dict(reversed(list(result.accuracy.uniform.items())))),
    )
    result.save(tmp_path / "a.json")
    other.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 1e22, -0.0, 4])
def test_floats_keep_every_bit(result: SearchResult, value: float) -> None:
    data = json.loads(json.dumps(replace(result, search=SearchSummary(1, value, value, 1)).to_json()))
    assert SearchResult.from_json(data).search.best.hex() == float(value).hex()


def put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("cost", "bpw"), "much", "key 'cost.bpw': expected a finite number, got 'much'"),
        (("cost", "bpw"), True, "key 'cost.bpw': expected a finite number, got True"),
        (("cost", "bpw"), float("nan"), "key 'cost.bpw': expected a finite number, got nan"),
        (("cost", "bpw"), 10**400, "key 'cost.bpw': expected a finite number, got 1000"),
        (("cost", "bytes"), 1.5, "key 'cost.bytes': expected an integer, got 1.5"),
        (("seed",), None, "key 'seed': expected an integer, got None"),
        (("task",), 3, "key 'task': expected a string, got 3"),
        (("layers",), {}, "key 'layers': expected a list, got {}"),
        (("layers", 1), [], r"key 'layers\[1\]': expected an object, got \[\]"),
        (("layers", 0, "weight_format"), "int9:channel", r"key 'layers\[0\].weight_format': a format of 9 bits"),
        (("layers", 0, "sensitivity"), {"9": 1.0}, r"key 'layers\[0\].sensitivity.9': expected a width from 2 to 8"),
        (("subnet", "conv1"), {"weight": "int4"}, "key 'subnet': layer 'conv1': .* is not a layer format"),
        (("accuracy", "uniform", "4", "test"), "x", "key 'accuracy.uniform.4.test': expected a finite number"),
        (("surprise",), 1, "key 'surprise' is unknown; expected schema, task"),
        (("schema",), 2, "key 'schema': it is 2, and this version of eqnet reads 1"),
    ],
)
def test_a_malformed_value_is_named_by_file_and_key(
    tmp_path: Path, result: SearchResult, path: tuple[Any, ...], value: Any, message: str
) -> None:
    data = json.loads(json.dumps(result.to_json()))
    put(data, path, value)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=f"result.json: {message}"):
        SearchResult.load(file)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(result: SearchResult, key: str) -> None:
    data = result.to_json()
    del data[key]
    with pytest.raises(InputError, match=f"^key '{key}' is missing$"):
        SearchResult.from_json(data)


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "\udcff", "[" * 100_000])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"result\.json: "):
        SearchResult.load(file)
    with pytest.raises(InputError, match=r"absent\.json: cannot be read as a result"):
        SearchResult.load(tmp_path / "absent.json")


def test_an_infinite_value_is_not_written(tmp_path: Path, result: SearchResult) -> None:
    endless = replace(result, search=replace(result.search, best=float("inf")))
    with pytest.raises(InputError, match=r"key 'search\.best': expected a finite number, got inf"):
        endless.save(tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, result: SearchResult) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        result.save(tmp_path / "file" / "result.json")
