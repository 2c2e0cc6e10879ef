"""The verbs on artifacts in one file: ONNX models and libraries that TVM compiled."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from eqnet import load
from eqnet.bench.fresh import Start
from eqnet.export.onnx import OnnxOptions, write_onnx
from tests.cli.command import Command, Ended, refused
from tests.cli.small_tasks import _data, _network
from tests.eqnet.runtime.engines.files import LIBRARY, RECORD, WEIGHT, X, compiled, linear, saved

TIES = 4
"""Codes of the last layer's input that go to the other side of a tie in one image: of 16 there are few."""

FLOATS = 1e-4
"""Sums of 32 products of numbers below 10 in float32."""

NO_RECORD = "the file carries no quantization record"


def _json(ended: Ended):
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


@pytest.fixture(scope="session")
def exported(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact as an ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "quadrants.onnx"
    write_onnx(load(artifact, _network), path, _data(2, 1).tensors[0], options=OnnxOptions(exact=True))
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    return saved(linear(), tmp_path / "foreign.onnx")


@pytest.fixture
def x(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("tvm") / "x.so", LIBRARY)


def test_run_of_an_onnx_file_of_ours(eqnet: Command, artifact: Path, exported: Path, tmp_path: Path) -> None:
    images = _data(70, 9).tensors[0]
    np.save(tmp_path / "images.npy", images.numpy())
    ended = eqnet("run", exported, "--input", tmp_path / "images.npy", "-o", tmp_path / "y.npy")
    assert ended.status == 0, ended.err
    assert f"Runs as ONNX Runtime {onnxruntime.__version__}; exact." in ended.out
    packed = load(artifact, _network)
    last = packed.layers["11"]
    assert last.input_scale is not None
    step = (last.input_scale * last.weight.dequantize().abs().max()).item()
    expected, found = packed(images).numpy(), np.load(tmp_path / "y.npy")
    assert np.abs(found - expected).max() < TIES * step
    assert (found.argmax(1) == expected.argmax(1)).all()
    np.save(tmp_path / "one.npy", images[0].numpy())
    one = _json(eqnet("run", exported, "--input", tmp_path / "one.npy", "--json"))
    assert one["shape"] == [4]


def test_run_of_an_onnx_file_of_others(eqnet: Command, foreign: Path, x: Path, tmp_path: Path) -> None:
    ended = eqnet("run", foreign, "--input", x, "-o", tmp_path / "y.npy")
    assert ended.status == 0, ended.err
    assert ended.out.count(NO_RECORD) == 1
    assert "of 2 outputs the first, 'y'" in ended.out
    exact = np.load(tmp_path / "y.npy")
    assert np.abs(exact - np.maximum(X @ WEIGHT, 0)).max() < FLOATS
    for option in (("--fast",), ("--compute", "int8")):
        assert eqnet("run", foreign, "--input", x, "-o", tmp_path / "fast.npy", *option).status == 0
        assert np.abs(np.load(tmp_path / "fast.npy") - exact).max() > FLOATS


def test_run_refuses_inputs_that_the_file_does_not_take(eqnet: Command, foreign: Path, tmp_path: Path) -> None:
    for array, words in (
        (np.zeros((2, 31), np.float32), "foreign.onnx: takes x: float32 [N, 32]; given float32 [2, 31]"),
        (np.zeros((2, 2, 32), np.float32), "is of shape [2, 2, 32]; expected [32], or [N, 32] for several"),
        (np.zeros((2, 32), np.int64), "holds int64; the model takes float32"),
    ):
        np.save(tmp_path / "wrong.npy", array)
        refused(eqnet("run", foreign, "--input", tmp_path / "wrong.npy"), "wrong.npy", words)


def test_run_of_a_library(eqnet: Command, library: Path, x: Path, tmp_path: Path) -> None:
    ended = eqnet("run", library, "--input", x, "-o", tmp_path / "y.npy")
    assert ended.status == 0, ended.err
    assert "Runs as TVM " in ended.out
    assert np.abs(np.load(tmp_path / "y.npy") - X @ WEIGHT).max() < FLOATS


def test_eval_of_an_onnx_file_is_that_of_the_artifact(
    eqnet: Command, small_task: str, artifact: Path, exported: Path
) -> None:
    common = ("--task", small_task, "--json")
    of_file, of_folder = (_json(eqnet("eval", path, *common)) for path in (exported, artifact))
    assert of_file["accuracy"] == of_folder["accuracy"]
    assert of_file["loss"] == pytest.approx(of_folder["loss"], rel=0.01)
    assert of_file["reported"] == of_folder["reported"]
    assert of_file["samples"] == 128
    refused(eqnet("eval", exported), f"give --task {small_task}")
    refused(eqnet("eval", exported, "--uniform", "4"), "holds one network")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the legacy exporter, which is the quick one
def test_eval_of_a_file_of_others_needs_the_task(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    torch.onnx.export(_network().eval(), (torch.zeros(3, 1, 6, 6),), path, dynamo=False)
    refused(eqnet("eval", path), "does not say what task it is of; give --task")
    figures = _json(eqnet("eval", path, "--task", small_task, "--json"))
    assert (figures["samples"], figures["reported"]) == (128, None), "in batches of 3, the only size that it takes"
    assert figures["runs"].endswith(NO_RECORD)


def test_inspect_of_an_onnx_file_of_ours(eqnet: Command, artifact: Path, exported: Path) -> None:
    found = _json(eqnet("inspect", exported, "--json"))
    layers = _json(eqnet("inspect", artifact, "--json"))["layers"]
    for key in ("name", "kind", "weight", "input", "shape"):
        assert [layer[key] for layer in found["layers"]] == [layer[key] for layer in layers]
    assert found["bytes"] == exported.stat().st_size
    model = onnx.load(str(exported))
    assert sum(found["operators"].values()) == len(model.graph.node)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    own = {name: array for name, array in arrays.items() if name.rpartition(".")[0] == "0"}
    assert found["layers"][0]["bytes"] == sum(array.nbytes for array in own.values()), "of 8 bits and more"
    assert sum(found["tensors"].values()) < sum(array.nbytes for array in arrays.values()), "some are of 4 bits"
    assert found["origin"]["task"]["name"] == "quadrants"
    table = eqnet("inspect", exported).out
    assert found["written_by"] in table
    assert "int8:channel" in table


def test_inspect_of_a_file_of_others(eqnet: Command, foreign: Path) -> None:
    found = _json(eqnet("inspect", foreign, "--json"))
    assert found["layers"] is None
    assert found["inputs"] == ["x: float32 [batch, 32]"]
    assert found["outputs"] == ["y: float32 [batch, 5]", "half: float32 [batch, 5]"]
    assert found["operators"] == {"DequantizeLinear": 1, "MatMul": 1, "Relu": 1, "Mul": 1}
    assert found["tensors"] == {"int4": 80, "float32": 44}
    assert "ONNX 21, IR 10" in found["form"]
    assert NO_RECORD in eqnet("inspect", foreign).out


def test_inspect_counts_external_data(eqnet: Command, tmp_path: Path) -> None:
    how = {"save_as_external_data": True, "all_tensors_to_one_file": True, "location": "x.data", "size_threshold": 0}
    path = saved(linear(), tmp_path / "x.onnx", **how)
    found = _json(eqnet("inspect", path, "--json"))
    assert found["bytes"] == path.stat().st_size + (tmp_path / "x.data").stat().st_size
    assert found["tensors"] == {"int4": 80, "float32": 44}


def test_inspect_of_a_library_runs_nothing_of_it(
    eqnet: Command, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tvm", None)
    found = _json(eqnet("inspect", library, "--json"))
    assert [layer["name"] for layer in found["layers"]] == [*RECORD["layers"]]
    assert (found["written_by"], found["inputs"]) == ("eqnet 9.8.7", ["x: float32 [N, 32]"])
    assert found["bytes"] == library.stat().st_size
    table = eqnet("inspect", library).out
    assert "int4:group16" in table
    assert "kernels: tir" in table


@pytest.mark.parametrize("verb", ["inspect", "run", "eval", "bench"])
@pytest.mark.parametrize("name", ["x.onnx", "x.so", "x.txt"])
def test_what_is_no_artifact_is_refused_by_every_verb(eqnet: Command, tmp_path: Path, verb: str, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    more = ("--input", tmp_path / "x.npy") if verb == "run" else ()
    refused(eqnet(verb, tmp_path / name, *more), name)


def test_bench_of_a_file_times_it_alone(
    eqnet: Command, small_task: str, exported: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--seconds", "0.05", "--threads", "1", "--json")
    found = _json(eqnet("bench", exported, *common, "--batch", "2"))
    assert [(speed["form"], speed["batch"]) for speed in found["speeds"]] == [("ONNX, exact", 2), ("ONNX", 2)]
    assert found["start"]["first_output"] > 0
    monkeypatch.setattr(sys.modules["eqnet.cli.bench"], "start", lambda *_, **__: Start(1.5, 0.25, 0.125, None, None))
    table = eqnet("bench", foreign, *common[:-1]).out
    assert "times fp32" not in table
    assert [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│ ONNX")] == 2 * [
        "ONNX, exact",
        "ONNX",
    ]


def test_bench_takes_the_batch_that_the_file_takes(
    eqnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compiled(tmp_path / "x.so", {**LIBRARY, "inputs": [{**LIBRARY["inputs"][0], "shape": [3, 32]}]}, batch=3)
    monkeypatch.setattr(sys.modules["eqnet.cli.bench"], "start", lambda *_, **__: Start(1.5, 0.25, 0.125, None, None))
    common = ("bench", library, "--seconds", "0.05", "--threads", "1,2", "--json")
    speeds = _json(eqnet(*common))["speeds"]
    assert [(speed["form"], speed["threads"], speed["batch"]) for speed in speeds] == [("TVM", 1, 3), ("TVM", 2, 3)]
    refused(eqnet(*common, "--batch", "1"), "x.so: takes batches of 3 only; give --batch 3")


def test_compare_of_an_artifact_and_its_onnx_file(
    eqnet: Command, small_task: str, artifact: Path, exported: Path
) -> None:
    found = _json(eqnet("compare", artifact, exported, "--task", small_task, "--json"))
    assert {"0", "3", "6", "11"} <= {layer["name"] for layer in found["layers"]}
    assert found["departs"] is None
    assert found["agreement"] > 0.99
    model = onnx.load(str(exported))
    tensor = next(t for t in model.graph.initializer if t.name == "6.scale")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name))
    onnx.save(model, str(exported.with_name("damaged.onnx")))
    common = ("compare", artifact, exported.with_name("damaged.onnx"), "--task", small_task)
    assert "The first layer that departs is '6'" in eqnet(*common).out


def test_compare_of_files_that_show_no_layers(eqnet: Command, library: Path, foreign: Path, x: Path) -> None:
    ended = eqnet("compare", foreign, library, "--input", x)
    assert ended.status == 0, ended.err
    assert f"Layers cannot be compared: {foreign} and {library} shows none of them." in ended.out
    largest = np.abs(np.minimum(X @ WEIGHT, 0)).max()
    assert _json(eqnet("compare", foreign, library, "--input", x, "--json"))["largest"] == pytest.approx(
        largest, rel=1e-4
    )


def test_reading_an_onnx_file_without_onnx_names_the_extra(
    eqnet: Command, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    ended = eqnet("inspect", foreign)
    assert ended.status == 1
    assert "pip install 'eqnet[onnx]'" in ended.err
