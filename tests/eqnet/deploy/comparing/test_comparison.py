"""Finding the layer that is wrong."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import eqnet
import eqnet.runtime
from eqnet import Choices
from eqnet.deploy.comparing.comparison import Comparison, compare
from eqnet.deploy.comparing.supernet import SupernetRunner
from eqnet.errors import InputError
from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.packed.model import PackedModel
from eqnet.runtime.engines.packed import PackedRunner
from eqnet.supernet import Supernet
from eqnet.tasks.task import top1


class Residual(nn.Module):
    """Batch norms that fold, one that does not, a sum, and ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.short = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.norm(self.body(x)) + self.short(x))
        return self.head(x.mean((2, 3)))


NAMES = ["stem.0", "body", "short", "head"]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(80, 2, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def supernet(x: Tensor) -> Supernet:
    torch.manual_seed(0)
    supernet = eqnet.elasticize(Residual(), Choices.parse("w=4:channel:asym a=4:asym"), x[:2])
    supernet.calibrate([x])
    return supernet


@pytest.fixture(scope="module")
def packed(supernet: Supernet, x: Tensor) -> PackedModel:
    return eqnet.pack(supernet, _subnet(supernet), [x])


def _subnet(supernet: Supernet):
    return supernet.space.subnet([0] * len(supernet.space.sets))


def _compared(a: eqnet.runtime.Runner, b: eqnet.runtime.Runner, x: Tensor) -> Comparison:
    return compare(a, b, [(x[:50], None), (x[50:], None)])


def _departing(found: Comparison) -> list[str]:
    return [layer.name for layer in found.layers if layer.departs]


def test_supernet_and_what_is_packed_of_it_agree(supernet: Supernet, packed: PackedModel, x: Tensor) -> None:
    a = SupernetRunner(Path("run"), supernet, _subnet(supernet), [x], x[:1])
    found = _compared(a, PackedRunner(Path("packed"), packed), x)
    assert [layer.name for layer in found.layers] == NAMES
    assert _departing(found) == []
    assert found.first is None
    assert found.samples == 80
    assert found.layer_samples == 64
    assert all(layer.figures.relative < 1e-5 for layer in found.layers), "with the batch norm of stem.0 and body"
    assert found.outputs.cosine > 0.9999
    assert found.agreement is not None
    assert found.agreement > 0.98


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["scale", "bias", "input_scale"])
def test_damaged_layer_of_a_packed_model_is_named_and_no_other(
    packed: PackedModel, x: Tensor, name: str, part: str
) -> None:
    wrong = copy.deepcopy(packed)
    layer = wrong.layers[name]
    if part == "scale":
        layer.scale[3] *= 1.1  # of one channel
    elif part == "bias":
        layer.bias[3] += 0.1
    else:
        layer.input_scale *= 1.1
    found = _compared(PackedRunner(Path("a"), packed), PackedRunner(Path("b"), wrong), x)
    assert _departing(found) == [name]
    assert found.first is not None
    assert found.first.name == name
    assert found.first.unseen == ()


@pytest.fixture(scope="module")
def exported(packed: PackedModel, x: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    write_onnx(packed, path, x[:2], options=OnnxOptions(exact=True))
    return path


def _damage(path: Path, out: Path, name: str) -> str:
    """Changes a layer's weight scale in an ONNX file by a tenth, in one channel."""
    model = onnx.load(str(path))
    tensor = next(t for t in model.graph.initializer if t.name == f"{name}.scale")
    scale = numpy_helper.to_array(tensor).copy()
    scale.reshape(-1)[2] *= np.float32(1.1)
    tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
    onnx.save(model, str(out))
    return tensor.name


def test_onnx_agrees_in_both_directions(packed: PackedModel, exported: Path, x: Tensor) -> None:
    a, b = PackedRunner(Path("a"), packed), eqnet.runtime.open(exported)
    for found in (_compared(a, b, x), _compared(b, a, x)):
        assert {"stem.0", "body", "head"} <= {layer.name for layer in found.layers} <= set(NAMES)
        assert _departing(found) == []


@pytest.mark.parametrize("name", ["stem.0", "body", "head"])
def test_damaged_layer_of_an_onnx_file_is_named_and_no_other(
    packed: PackedModel, exported: Path, x: Tensor, tmp_path: Path, name: str
) -> None:
    _damage(exported, tmp_path / "wrong.onnx", name)
    right, wrong = PackedRunner(Path("a"), packed), eqnet.runtime.open(tmp_path / "wrong.onnx")
    assert _departing(_compared(right, wrong, x)) == [name]
    assert _departing(_compared(wrong, right, x)) == [name]


def _rounded(path: Path, out: Path, name: str, results: Tensor, factor: float = 1.0) -> None:
    """Rounds a layer's result in an ONNX file to 8 bits in its range; ``factor`` makes that wrong."""
    model = onnx.load(str(path))
    names = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "eqnet.layers"))
    value = names[name]
    step = np.float32((results.max() - results.min()).item() / 255)
    zero = np.uint8(np.rint(-results.min().item() / step))
    constants = {"step": step, "zero": zero, "wrong": step * np.float32(factor)}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(array), f"own.{key}") for key, array in constants.items()
    )
    for node in model.graph.node:
        for i, read in enumerate(node.input):
            node.input[i] = "held" if read == value else read
    made = next(i for i, node in enumerate(model.graph.node) if value in node.output)
    ends = {"DequantizeLinear": ("codes", "held", "wrong"), "QuantizeLinear": (value, "codes", "step")}
    for kind, (read, written, scale) in ends.items():
        node = onnx.helper.make_node(kind, [read, f"own.{scale}", "own.zero"], [written])
        model.graph.node.insert(made + 1, node)
    next(entry for entry in model.metadata_props if entry.key == "eqnet.layers").value = json.dumps(
        {**names, name: "held"}
    )
    onnx.save(model, str(out))


def test_result_that_is_held_in_8_bits_does_not_depart_unless_it_is_wrong(
    packed: PackedModel, exported: Path, x: Tensor, tmp_path: Path
) -> None:
    right = PackedRunner(Path("a"), packed)
    results = right.layers(x)["stem.0"]
    _rounded(exported, tmp_path / "x.onnx", "stem.0", results)
    runner = eqnet.runtime.open(tmp_path / "x.onnx")
    assert runner.approximate() == {"stem.0"}
    for found in (_compared(right, runner, x), _compared(runner, right, x)):
        assert _departing(found) == []
        assert found.layers[0].approximate
        assert found.layers[0].figures.largest > 0
    _rounded(exported, tmp_path / "wrong.onnx", "stem.0", results, 1.1)
    assert _departing(_compared(right, eqnet.runtime.open(tmp_path / "wrong.onnx"), x)) == ["stem.0"]


def test_export_that_rounds_sums_does_not_depart_unless_a_layer_is_wrong(
    packed: PackedModel, x: Tensor, tmp_path: Path
) -> None:
    write_onnx(packed, tmp_path / "x.onnx", x[:2], calibration=[x], options=OnnxOptions(exact=False))
    right, runner = PackedRunner(Path("a"), packed), eqnet.runtime.open(tmp_path / "x.onnx")
    assert "head" in runner.approximate(), "behind the sum"
    assert _departing(_compared(right, runner, x)) == []
    assert _departing(_compared(runner, right, x)) == []
    _damage(tmp_path / "x.onnx", tmp_path / "wrong.onnx", "head")
    assert _departing(_compared(right, eqnet.runtime.open(tmp_path / "wrong.onnx"), x)) == ["head"]


class _Plain(eqnet.runtime.Runner):
    """A function, as an artifact that shows the results of some layers."""

    kind = "plain"

    def __init__(self, name: str, function, shape, shown=None, dtype=torch.float32) -> None:
        super().__init__(Path(name), None, (eqnet.runtime.InputSpec("x", shape, dtype),))
        self._function, self._shown = function, shown or {}

    def __call__(self, *xs: Tensor) -> Tensor:
        return self._function(xs[0])

    def layers(self, *xs: Tensor, given=None) -> dict[str, Tensor]:
        return {name: function(xs[0]) for name, function in self._shown.items()}


def test_accuracies_and_agreement_are_those_of_the_outputs(x: Tensor) -> None:
    def logits(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    labels = logits(x).argmax(1)
    a = _Plain("a", logits, (None, 2, 6, 5))
    b = _Plain("b", lambda x: logits(x) * torch.tensor([1.0, 1.0, 0.0]), (None, 2, 6, 5))
    found = compare(a, b, [(x[:30], labels[:30]), (x[30:], labels[30:])], top1)
    same = (labels == (logits(x) * torch.tensor([1.0, 1.0, 0.0])).argmax(1)).float().mean().item()
    assert found.accuracy == (1.0, pytest.approx(same))
    assert found.agreement == pytest.approx(same)
    assert found.layers == ()
    assert found.layer_samples == 0


def test_layers_that_only_one_shows_are_told_with_the_one_after_them(x: Tensor) -> None:
    def double(x: Tensor) -> Tensor:
        return 2 * x

    a = _Plain("a", double, (None, 2, 6, 5), {"first": double, "second": double, "third": double})
    b = _Plain("b", double, (None, 2, 6, 5), {"first": double, "third": torch.relu})
    found = _compared(a, b, x)
    assert [(layer.name, layer.unseen) for layer in found.layers] == [("first", ()), ("third", ("second",))]
    assert _departing(found) == ["third"]


def test_batches_of_a_fixed_size_are_filled_up(x: Tensor) -> None:
    sizes = []

    def fixed(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.flatten(1)

    a = _Plain("a", lambda x: x.flatten(1), (None, 2, 6, 5))
    b = _Plain("b", fixed, (3, 2, 6, 5))
    found = compare(a, b, [(x[:7], None), (x[7:8], None)])
    assert set(sizes) == {3}
    assert (found.samples, found.outputs.largest) == (8, 0)


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (
            _Plain("b", torch.relu, (None, 2, 6, 4)),
            r"a takes x: float32 \[N, 2, 6, 5\], b takes x: float32 \[N, 2, 6, 4\]",
        ),
        (_Plain("b", torch.relu, (None, 60)), "compare two forms of one network"),
        (_Plain("b", torch.relu, (None, 2, 6, 5), dtype=torch.int64), "b takes x: int64"),
        (_Plain("b", lambda x: x[:, :1], (None, 2, None, None)), r"a returns outputs of shape \[80, 2, 6, 5\], b of"),
    ],
    ids=["size", "dimensions", "type", "output"],
)
def test_pairs_that_are_no_pair_are_refused(x: Tensor, b: _Plain, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare(_Plain("a", torch.relu, (None, 2, 6, 5)), b, [(x, None)])


def test_nothing_to_compare_on_is_refused() -> None:
    a = _Plain("a", torch.relu, (None, 2, 6, 5))
    with pytest.raises(InputError, match="there is no input to compare on"):
        compare(a, a, [])
