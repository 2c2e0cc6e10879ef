"""ONNX models in ONNX Runtime, eqnet's and others'."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import eqnet.runtime
from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.runtime.engines import onnx as engine
from tests.eqnet.runtime.engines.files import RECORD, WEIGHT, X, linear, saved

ROUNDING = 1e-5
"""Sums of 32 products of numbers below 10 in float32."""

PRODUCT = X @ WEIGHT


def test_answers_are_exact_unless_asked_otherwise(tmp_path: Path) -> None:
    path = saved(linear(), tmp_path / "x.onnx")
    exact = eqnet.runtime.open(path)(torch.from_numpy(X)).numpy()
    assert np.abs(exact - np.maximum(PRODUCT, 0)).max() < ROUNDING
    fast = eqnet.runtime.open(path, exact=False)(torch.from_numpy(X)).numpy()
    assert ROUNDING < np.abs(fast - np.maximum(PRODUCT, 0)).max() < 0.05 * PRODUCT.max(), "inputs were rounded to int8"


def test_runner_says_what_it_takes_and_what_it_is(tmp_path: Path) -> None:
    runner = eqnet.runtime.open(saved(linear(), tmp_path / "x.onnx"))
    assert runner.kind == "onnx"
    assert [str(spec) for spec in runner.inputs] == ["x: float32 [N, 32]"]
    assert runner.outputs == ("y", "half")
    assert runner.record is None
    assert "the file carries no quantization record" in str(runner)
    assert "of 2 outputs the first, 'y'" in str(runner)
    assert runner.layers(torch.from_numpy(X)) == {}
    assert "less exact" in str(eqnet.runtime.open(tmp_path / "x.onnx", exact=False))


def test_record_in_the_file_is_read(tmp_path: Path) -> None:
    runner = eqnet.runtime.open(saved(linear(eqnet_record=json.dumps(RECORD)), tmp_path / "x.onnx"))
    assert runner.record is not None
    assert str(runner.record.layers["fc"].weight) == "int4:group16"
    assert "record" not in str(runner)


@pytest.mark.parametrize(
    ("xs", "given"),
    [
        ((), "given nothing"),
        ((torch.zeros(2, 31),), r"given float32 \[2, 31\]"),
        ((torch.zeros(32),), r"given float32 \[32\]"),
        ((torch.zeros(2, 32, dtype=torch.float64),), r"given float64 \[2, 32\]"),
        ((torch.zeros(2, 32), torch.zeros(1)), r"given float32 \[2, 32\], float32 \[1\]"),
    ],
    ids=["none", "columns", "no-batch", "type", "two"],
)
def test_other_inputs_are_refused_with_the_expected_ones(
    tmp_path: Path, xs: tuple[torch.Tensor, ...], given: str
) -> None:
    runner = eqnet.runtime.open(saved(linear(), tmp_path / "x.onnx"))
    with pytest.raises(InputError, match=rf"x\.onnx: takes x: float32 \[N, 32\]; {given}"):
        runner(*xs)


def test_several_inputs_are_given_in_their_order(tmp_path: Path) -> None:
    infos = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", 2]) for name in ("b", "a")]
    out = helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 2])
    graph = helper.make_graph([helper.make_node("Sub", ["a", "b"], ["y"])], "g", infos, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    runner = eqnet.runtime.open(saved(model, tmp_path / "x.onnx"))
    b, a = torch.tensor([[1, 2]]), torch.tensor([[10, 30]])
    assert runner(b, a).tolist() == [[9, 28]]
    with pytest.raises(InputError, match=r"x\.onnx: does not run on int64 \[2, 2\], int64 \[3, 2\]"):
        runner(torch.cat([b, b]), torch.zeros(3, 2, dtype=torch.int64))


def _renamed(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "MatMool"


def _newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 999


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_renamed, "has operators that this ONNX Runtime does not know; pip install -U onnxruntime"),
        (_newer_opset, "uses an opset newer than this ONNX Runtime; pip install -U onnxruntime"),
        (_newer_ir, "was written for a newer ONNX Runtime; pip install -U onnxruntime"),
    ],
    ids=["operator", "opset", "ir"],
)
def test_what_needs_a_newer_engine_says_so(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], words: str
) -> None:
    model = linear()
    change(model)
    with pytest.raises(RunError, match=rf"x\.onnx: {words}"):
        eqnet.runtime.open(saved(model, tmp_path / "x.onnx"))


@pytest.mark.parametrize(
    "content", [b"", b"no model at all", linear().SerializeToString()[:-40]], ids=["0", "text", "cut"]
)
def test_what_is_no_whole_model_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(
        RunError, match=r"x\.onnx: is no ONNX model, or only a part of one; export or download it again"
    ):
        eqnet.runtime.open(tmp_path / "x.onnx")


def test_external_data_lies_beside_the_model(tmp_path: Path) -> None:
    how = {"save_as_external_data": True, "all_tensors_to_one_file": True, "location": "x.data", "size_threshold": 0}
    layers = {"eqnet_record": json.dumps(RECORD), "eqnet_layers": '{"fc": "product"}'}
    path = saved(linear(**layers), tmp_path / "x.onnx", **how)
    x = torch.from_numpy(X)
    runner = eqnet.runtime.open(path)
    assert np.abs(runner(x).numpy() - np.maximum(PRODUCT, 0)).max() < ROUNDING
    assert np.abs(runner.layers(x)["fc"].numpy() - PRODUCT).max() < ROUNDING
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(path, tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"elsewhere/x\.onnx: lacks the file of its external data; put it beside"):
        eqnet.runtime.open(tmp_path / "elsewhere" / "x.onnx")
    (tmp_path / "elsewhere" / "x.data").write_bytes(b"short")
    with pytest.raises(RunError, match=r"has a file of external data that is cut off"):
        eqnet.runtime.open(tmp_path / "elsewhere" / "x.onnx")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"eqnet_record": "{"}, "its eqnet.record is no JSON"),
        ({"eqnet_record": '{"layers": 1}'}, "its eqnet.record expected 'layers'"),
        ({"eqnet_record": json.dumps(RECORD), "eqnet_layers": "[1]"}, "its eqnet.layers expected names"),
        ({"eqnet_record": json.dumps(RECORD), "eqnet_layers": '{"fc": "no"}'}, "'fc': there is no value 'no'"),
    ],
    ids=["no-json", "no-record", "no-names", "no-value"],
)
def test_damaged_metadata_are_refused_by_name(tmp_path: Path, metadata: dict[str, str], words: str) -> None:
    path = saved(linear(**metadata), tmp_path / "x.onnx")
    with pytest.raises(RunError, match=rf"x\.onnx: .*{words}"):
        eqnet.runtime.open(path).layers(torch.from_numpy(X))


def test_what_follows_a_layer_reads_what_is_given(tmp_path: Path) -> None:
    names = {"fc": "product", "act": "y"}
    model = linear(eqnet_record=json.dumps(RECORD), eqnet_layers=json.dumps(names))
    runner, x = eqnet.runtime.open(saved(model, tmp_path / "x.onnx")), torch.from_numpy(X)
    found = runner.layers(x)
    assert [*found] == ["fc", "act"]
    assert np.abs(found["fc"].numpy() - PRODUCT).max() < ROUNDING
    given = torch.arange(-17.0, 18.0).view(7, 5)
    forced = runner.layers(x, given={"fc": given, "elsewhere": x})
    assert forced["act"].equal(given.clamp(min=0))
    assert forced["fc"].equal(found["fc"])


def test_layers_behind_dequantized_codes_that_no_layer_reads_are_approximate(tmp_path: Path) -> None:
    """X → codes → first → codes → second → codes → Neg → codes → third, and second → fourth."""
    nodes: list[onnx.NodeProto] = []

    def through_codes(read: str, written: str) -> None:
        nodes.append(helper.make_node("QuantizeLinear", [read, "scale"], [f"{written} codes"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{written} codes", "scale"], [written]))

    def layer(name: str, read: str) -> None:
        through_codes(read, f"{name} in")
        nodes.append(helper.make_node("MatMul", [f"{name} in", "w"], [f"{name} out"], name=name))

    nodes.append(helper.make_node("DequantizeLinear", ["stored", "scale"], ["w"]))
    layer("first", "x")
    layer("second", "first out")
    through_codes("second out", "held")
    nodes.append(helper.make_node("Neg", ["held"], ["negative"]))
    layer("third", "negative")
    layer("fourth", "second out")
    names = ("first", "second", "third", "fourth")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    outputs = [helper.make_tensor_value_info(f"{name} out", TensorProto.FLOAT, ["n", 2]) for name in names[2:]]
    constants = {"scale": np.array(0.5, np.float32), "stored": np.array([[1, 2], [3, 4]], np.int8)}
    graph = helper.make_graph(
        nodes, "g", [x], outputs, [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    record = {**RECORD, "layers": dict.fromkeys(names, RECORD["layers"]["fc"])}
    values = {name: f"{name} out" for name in names}
    helper.set_model_props(model, {"eqnet.record": json.dumps(record), "eqnet.layers": json.dumps(values)})
    runner = eqnet.runtime.open(saved(model, tmp_path / "x.onnx"))
    assert runner.approximate() == {"third"}
    assert [*runner.layers(torch.ones(1, 2))] == [*names]


def test_session_guards_against_overflow_only_where_the_processor_overflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(engine, "CPU", tmp_path / "cpuinfo")
    for flags, expected in (("avx2 fma", True), ("avx2 avx_vnni", False), ("avx512f avx512_vnni", False)):
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
        assert (engine.exact_options().get("session.x64quantprecision") == "1") is expected, flags
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (tmp_path / "cpuinfo").write_text("Features : asimd\n")
    assert engine.exact_options() == {"session.qdq_matmulnbits_accuracy_level": "0"}


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    path = saved(linear(eqnet_record=json.dumps(RECORD), eqnet_layers='{"fc": "product"}'), tmp_path / "x.onnx")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"x\.onnx: .*pip install 'eqnet\[onnx\]'"):
        eqnet.runtime.open(path).layers(torch.from_numpy(X))
