"""Files whose weights lie beside them, as those of more than 2 GB must; the limit is lowered here."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from eqnet.errors import RunError
from eqnet.export.onnx import OnnxOptions, saving
from eqnet.formats import Format
from eqnet.packed.layers import PackedLayer
from tests.export.onnx.layers_of_any_format import feeds, packed_layer, packed_tensor, session, written

PAGE = 4096
KEPT = 0.5
"""Of the bytes of ten weights, what writing may keep in memory at a time: the steps from one to its bytes."""


@pytest.fixture
def layers() -> list[PackedLayer]:
    formats = [Format.parse(text) for text in ("uint4:group32", "int3:channel", "uint8:group16")]
    return [packed_layer(nn.Linear(96, 64), f"l{i}", packed_tensor(fmt, 64, 96, i)) for i, fmt in enumerate(formats)]


@pytest.fixture
def inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 96, generator=generator) for _ in range(3)]


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "MOST_INLINE_BYTES", 2000)


@pytest.mark.usefixtures("low_limit")
def test_weights_beside_a_file_give_the_answers_of_those_in_it(
    layers: list[PackedLayer], inputs: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    written(folder / "beside.onnx", layers, inputs, OnnxOptions())
    monkeypatch.setattr(saving, "MOST_INLINE_BYTES", 1 << 30)
    written(folder / "inline.onnx", layers, inputs, OnnxOptions())
    assert sorted(path.name for path in folder.iterdir()) == ["beside.onnx", "beside.onnx.data", "inline.onnx"]
    monkeypatch.chdir(elsewhere)
    expected, found = (
        session(folder / f"{name}.onnx", "optimized").run(None, feeds(inputs)) for name in ("inline", "beside")
    )
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("low_limit")
def test_weights_lie_at_whole_pages_and_what_is_small_stays_in_the_file(
    layers: list[PackedLayer], inputs: list[torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    written(path, layers, inputs, OnnxOptions())
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        size = ir.serde.deserialize_tensor(tensor, base_path=str(tmp_path)).nbytes
        assert bool(entries) == (size > 1024)
        if entries:
            assert entries["location"] == "model.onnx.data"
            assert int(entries["offset"]) % PAGE == 0


@pytest.mark.usefixtures("low_limit")
def test_a_failure_leaves_the_old_files_and_nothing_else(
    layers: list[PackedLayer], inputs: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    written(path, layers, inputs, OnnxOptions())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)  # the weights are written by then
    with pytest.raises(RunError, match=r"model\.onnx: cannot be written \(No space left on device\)"):
        written(path, layers, inputs, OnnxOptions())
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("low_limit")
def test_one_weight_at_a_time_is_in_memory(tmp_path: Path) -> None:
    layers = [
        packed_layer(
            nn.Linear(1024, 512, bias=False), f"l{i}", packed_tensor(Format.parse("int8:channel"), 512, 1024, i)
        )
        for i in range(10)
    ]
    tracemalloc.start()
    try:
        written(tmp_path / "model.onnx", layers, [torch.zeros(1, 1024)] * 10, OnnxOptions())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "model.onnx.data").stat().st_size >= 10 * 1024 * 512
    assert peak <= KEPT * 10 * 1024 * 512
