"""Whole files: what they say of themselves, how they come to be, and what is refused."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from eqnet.errors import InputError, MissingPackageError, ModelError, RunError
from eqnet.export.onnx import OnnxOptions, OnnxReport, write_onnx
from eqnet.packed.model import PackedModel
from eqnet.packed.record import Record
from eqnet.tasks.networks import DigitsNet
from tests.export.onnx.networks import answer, images, packed_in

NOISE = 1e-3
"""Of the largest output: sums in another order fall on the other side of a tie now and then."""


@pytest.fixture(scope="module")
def digits() -> tuple[PackedModel, Tensor]:
    """A network with weights of 4 bits, and images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DigitsNet()
    x = images(7, 1, 8, 8)
    return packed_in(network, x, "w=4:channel:sym a=8 edge=none"), x


@pytest.fixture(scope="module")
def written(digits: tuple[PackedModel, Tensor], tmp_path_factory: pytest.TempPathFactory) -> OnnxReport:
    packed, x = digits
    return write_onnx(packed, tmp_path_factory.mktemp("digits") / "deep" / "model.onnx", x[:1], calibration=[x])


@pytest.fixture(scope="module")
def exact(digits: tuple[PackedModel, Tensor], tmp_path_factory: pytest.TempPathFactory) -> OnnxReport:
    packed, x = digits
    path = tmp_path_factory.mktemp("digits") / "exact.onnx"
    return write_onnx(packed, path, x[:1], options=OnnxOptions(exact=True))


def small() -> tuple[PackedModel, Tensor]:
    x = images(3, 2, 5, 5)
    return packed_in(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), x, "w=2:channel:sym a=8 edge=none"), x


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_a_file_takes_any_batch(batch: int, digits: tuple[PackedModel, Tensor], exact: OnnxReport) -> None:
    packed, x = digits
    expected = packed(x[:batch]).numpy()
    (found,) = answer(exact.path, x[:batch], optimized=False)
    assert np.abs(found - expected).max() <= NOISE * np.abs(expected).max()
    assert exact.dynamic == ("batch",)


def test_inputs_and_outputs_have_the_names_of_the_model(written: OnnxReport) -> None:
    graph = onnx.load(written.path).graph
    assert [value.name for value in graph.input] == ["x"]
    assert [value.name for value in graph.output] == ["output"]
    sizes = graph.output[0].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", 10]


def test_a_file_says_what_it_was_made_of(digits: tuple[PackedModel, Tensor], written: OnnxReport) -> None:
    packed, _ = digits
    model = onnx.load(written.path)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["eqnet.version"] == model.producer_version == version("eqnet")
    assert model.producer_name == "eqnet"
    assert Record.from_json(json.loads(facts["eqnet.record"])).layers == packed.record.layers
    assert set(facts) == {"eqnet.version", "eqnet.record", "eqnet.layers"}


@pytest.mark.parametrize("files", ["written", "exact"])
def test_results_of_layers_are_where_the_file_says(
    files: str, digits: tuple[PackedModel, Tensor], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    packed, x = digits
    model = onnx.load(request.getfixturevalue(files).path)
    names = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "eqnet.layers"))
    assert len(names) >= len(packed.layers) // 2
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names.values())
    seen: dict[str, Tensor] = {}
    for name in names:
        packed.layers[name].register_forward_hook(lambda _l, _x, y, name=name: seen.__setitem__(name, y))
    packed(x)
    onnx.save(model, tmp_path / "all.onnx")
    for name, found in zip(names, answer(tmp_path / "all.onnx", x, optimized=False)[1:], strict=True):
        expected = seen[name].numpy()
        assert found.shape == expected.shape
        assert np.median(np.abs(found - expected)) <= 0.02 * np.abs(expected).max(), name


def test_the_report_counts_bytes_and_layers(digits: tuple[PackedModel, Tensor], written: OnnxReport) -> None:
    packed, _ = digits
    codes = sum(layer.codes.numel() for layer in packed.layers.values())
    assert written.nbytes == written.path.stat().st_size
    assert written.packed_bytes == sum(layer.weight.nbytes for layer in packed.layers.values())
    zeros = sum(layer.rows for layer in packed.layers.values())  # a byte a channel, where weights are symmetric, too
    assert codes < written.stored_bytes <= written.packed_bytes + zeros
    assert sum(written.forms().values()) == len(packed.layers)
    assert set(written.layers) == set(packed.layers)
    text = str(written)
    assert f"{written.nbytes:,} bytes, opset 21, any batch" in text
    assert "rounded to 8 bits" in text


def test_odd_bits_take_the_next_wider_type(tmp_path: Path) -> None:
    x = images(3, 8)
    packed = packed_in(nn.Linear(8, 64, bias=False), x, "w=5:tensor:sym a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x)
    assert report.packed_bytes == 8 * 64 * 5 // 8 + 4
    assert report.stored_bytes >= 8 * 64 + 4


def test_codes_of_two_bits_take_two_bits(tmp_path: Path) -> None:
    packed, x = small()
    report = write_onnx(packed, tmp_path / "model.onnx", x)
    weight = next(t for t in onnx.load(report.path).graph.initializer if t.name == "0.weight")
    assert weight.data_type == onnx.TensorProto.INT2
    assert len(weight.raw_data) == -(-3 * 2 * 9 * 2 // 8)
    assert report.opset == 25


def test_the_same_model_gives_the_same_file(
    digits: tuple[PackedModel, Tensor], written: OnnxReport, tmp_path: Path
) -> None:
    packed, x = digits
    again = write_onnx(packed, tmp_path / "model.onnx", x[:1], calibration=[x])
    assert again.path.read_bytes() == written.path.read_bytes()


def test_the_model_stays_as_it_was(digits: tuple[PackedModel, Tensor], tmp_path: Path) -> None:
    packed, x = digits
    before = packed(x)
    write_onnx(packed, tmp_path / "model.onnx", x[:1], calibration=[x])
    assert torch.equal(packed(x), before)


def test_progress_is_told_for_each_layer(tmp_path: Path) -> None:
    packed, x = small()
    told: list[tuple[str, int, int]] = []
    write_onnx(packed, tmp_path / "model.onnx", x, report=lambda *step: told.append(step))
    assert told == [("Exporting", 0, 1), ("Exporting", 1, 1)]


def test_any_opset_that_has_the_types_can_be_asked_for(tmp_path: Path) -> None:
    packed, x = small()
    report = write_onnx(packed, tmp_path / "model.onnx", x, options=OnnxOptions(opset=26))
    assert report.opset == onnx.load(report.path).opset_import[0].version == 26
    (found,) = answer(report.path, x, optimized=True)
    assert found.shape == (3, 3, 3, 3)


@pytest.mark.parametrize(
    ("opset", "message"),
    [
        (24, "opset 24 has no type for the 2 bits of layer '0'; that needs opset 25"),
        (19, "opset 19: codes of 4 bits and scales for groups need 21"),
        (99, f"opset 99: the installed onnx {onnx.__version__} knows opsets up to {onnx.defs.onnx_opset_version()}"),
    ],
)
def test_other_opsets_are_refused(opset: int, message: str, tmp_path: Path) -> None:
    packed, x = small()
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        write_onnx(packed, tmp_path / "model.onnx", x, options=OnnxOptions(opset=opset))
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    packed, x = small()
    with pytest.raises(RunError, match="is a folder; give the name of a file"):
        write_onnx(packed, tmp_path, x)


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    packed, x = small()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"file/model\.onnx: cannot be written"):
        write_onnx(packed, tmp_path / "file" / "model.onnx", x)


def test_an_error_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, x = small()
    path = tmp_path / "model.onnx"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise onnx.checker.ValidationError("no")

    monkeypatch.setattr(onnx.checker, "check_model", fail)
    with pytest.raises(onnx.checker.ValidationError):
        write_onnx(packed, path, x)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, x = small()
    monkeypatch.delitem(sys.modules, "eqnet.export.onnx.writing", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'eqnet\[onnx\]'"):
        write_onnx(packed, tmp_path / "model.onnx", x)


class Branching(nn.Module):
    """Does something else if the input says so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 4] → [N, 4]."""
        if x.sum() > 0:
            x = -x
        return self.layer(x)


def test_control_flow_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    x = images(3, 4)
    packed = packed_in(Branching(), x, "w=8 a=8 edge=none")
    with pytest.raises(ModelError, match=r"test_write_onnx.py:\d+: 'if x.sum\(\) > 0:'"):
        write_onnx(packed, tmp_path / "model.onnx", x)


def test_affine_norms_and_weights_in_use_elsewhere(tmp_path: Path) -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3))
    with torch.no_grad():
        network[0].weight[:], network[3].bias[:] = torch.tensor([0.5, -2]), torch.tensor([1, 2, 3])
    x = images(3, 2, 5, 5)
    packed = packed_in(network, x, "w=8 a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x, options=OnnxOptions(exact=True))
    (found,) = answer(report.path, x, optimized=True)
    assert np.abs(found - packed(x).numpy()).max() <= NOISE * packed(x).abs().max()


class Reusing(nn.Module):
    """Calls one layer three times, twice on what it made itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(40, 40, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 40, H, W] → twice the same."""
        y = self.layer(self.layer(x).relu()).relu()
        return y, self.layer(y)


def test_weights_of_a_layer_that_is_called_again_are_stored_once(tmp_path: Path) -> None:
    x = images(3, 40, 5, 4)
    packed = packed_in(Reusing(), x, "w=8:channel:sym a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x, options=OnnxOptions(exact=True))
    assert report.nbytes < 1.5 * packed.nbytes
    zeros = sum(layer.rows for layer in packed.layers.values())  # a byte a channel
    assert report.stored_bytes == report.packed_bytes + zeros
    for expected, found in zip(packed(x), answer(report.path, x, optimized=False), strict=True):
        assert np.abs(found - expected.numpy()).max() <= 10 * NOISE * expected.abs().max()


def test_scales_of_two_bytes_take_two_bytes(tmp_path: Path) -> None:
    x = images(3, 3, 5, 4)
    sizes = {}
    for scale in ("fp16", "fp32"):
        packed = packed_in(nn.Conv2d(3, 100, 1), x, f"w=8:channel:sym a=8 edge=none scale={scale}")
        report = write_onnx(packed, tmp_path / f"{scale}.onnx", x, options=OnnxOptions(exact=True))
        (found,) = answer(report.path, x, optimized=True)
        assert np.abs(found - packed(x).detach().numpy()).max() <= NOISE * packed(x).abs().max()
        sizes[scale] = report.nbytes
    assert sizes["fp32"] - sizes["fp16"] > 150


def test_models_in_half_precision_keep_their_types(tmp_path: Path) -> None:
    x = images(3, 3, 5, 4).half()
    packed = packed_in(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), x.float(), "w=8 a=8 edge=none").half()
    report = write_onnx(packed, tmp_path / "model.onnx", x)
    (found,) = answer(report.path, x, optimized=True)
    assert found.dtype == np.float16
    assert np.abs(found - packed(x).numpy()).max() <= 2e-3 * packed(x).abs().max()  # a step of float16


def test_a_convolution_without_a_batch_is_one_of_one_sample(tmp_path: Path) -> None:
    x = images(3, 6, 5)
    packed = packed_in(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), x, "w=8 a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x, calibration=[x])
    (found,) = answer(report.path, x, optimized=False)
    assert found.shape == (4, 4, 3)
    assert np.abs(found - packed(x).numpy()).max() <= NOISE * packed(x).abs().max()
