"""The targets that come with eqnet."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqnet import Choices, Format, InputError, LayerFormat, Target
from eqnet.export.targets import built_in, load_target, table, tables
from eqnet.space import Layer

LINEAR = Layer("fc", "Linear", 4, 64, 256, 64)
LAYERS = {
    "Linear": LINEAR,
    "Conv2d": Layer("conv", "Conv2d", 4, 36, 36, 9),
    "folded": Layer("conv", "Conv2d", 4, 36, 36, 9, folded=True),
    "depthwise": Layer("depth", "Conv2d", 4, 9, 36, 9, depthwise=True),
    "Conv3d": Layer("video", "Conv3d", 4, 27, 36, 9),
    "ConvTranspose2d": Layer("up", "ConvTranspose2d", 4, 36, 36, 9),
    "Embedding": Layer("words", "Embedding", 10, 64, 0, 1),
}
NAMES = (
    "compressed-tensors",
    "eqnet",
    "gguf",
    "onnxruntime",
    "onnxruntime-weight-only",
    "snpe",
    "tensorrt",
    "tflite-micro",
    "tvm-llvm",
)
NOT_RUN = {
    "tflite-micro": {"Conv3d"},
    **dict.fromkeys(("gguf", "compressed-tensors"), set(LAYERS) - {"Linear", "Embedding"}),
}
"""Kinds of layers that a target has none of."""


def test_every_target_says_what_it_is_and_is_found_by_name() -> None:
    targets = built_in()
    assert tuple(t.name for t in targets) == tuple(tables()) == NAMES
    assert all(t.title and t.fast and t.source for t in targets)
    assert all(source.startswith("https://") for t in targets for source in t.source if t.name != "eqnet")
    assert [load_target(t.name) for t in targets] == targets


@pytest.mark.parametrize("name", ["eqnet", "tvm-llvm"])
@pytest.mark.parametrize("kind", LAYERS)
def test_eqnets_own_kernels_run_every_format(kind: str, name: str) -> None:
    target = load_target(name)
    text = "w=2-8:tensor,channel,group16,group128:sym,asym a=2-8:sym,asym edge=none"
    for fmt in [*Choices.parse(text).formats(), *Choices.parse("weight-only").formats()]:
        assert target.why_not(LAYERS[kind], fmt) is None


@pytest.mark.parametrize(
    ("name", "kinds", "runs", "refused"),
    [
        ("onnxruntime", "Linear Conv2d", "int4:channel×uint8 uint2:tensor×uint3 int8:tensor×int4",
         "int3:channel×uint8 int8:channel×float int4:group32×uint8"),
        ("onnxruntime-weight-only", "Linear", "uint4:group32×float int2:group256×float",
         "uint4:group24×float uint4:group32×uint8 int4:channel×float int3:group32×float"),
        ("tensorrt", "Linear Conv2d ConvTranspose2d", "int8:channel×int8 int8:tensor×int8",
         "uint8:channel×int8 int8:channel×uint8 int7:channel×int8 int4:channel×int8 int4:group64×int8"),
        ("tensorrt", "Linear", "int4:group64×float int4:group128×float",
         "int4:group32×float uint4:group64×float int8:channel×float"),
        ("tensorrt", "Conv2d", "", "int4:group64×float"),
        ("gguf", "Linear Embedding", "int4:group32×float int5:group32×float int8:group32×float",
         "int3:group32×float uint4:group32×float int4:group64×float int4:channel×float int8:channel×int8"),
        ("compressed-tensors", "Linear", "int4:group32×float uint4:group128×float int8:channel×float",
         "int3:group32×float uint8:group32×float int4:group16×float int4:tensor×float int8:channel×int8"),
        ("compressed-tensors", "Embedding", "int6:group16×float", ""),
        ("gguf", "Conv2d", "", "int4:group32×float"),
        ("snpe", "Linear Conv2d", "int4:channel×uint8 int4:tensor×uint8 uint8:tensor×int8 int8:channel×uint8",
         "uint8:channel×uint8 uint4:tensor×uint8 int6:channel×uint8 int4:channel×uint4 int4:group32×uint8"),
        ("snpe", "depthwise Conv3d ConvTranspose2d", "int8:channel×uint8 int8:tensor×uint8", "int4:channel×uint8"),
        ("snpe", "folded", "int8:tensor×uint8", "uint8:tensor×uint8"),
        ("snpe", "Embedding", "int8:tensor×float uint8:tensor×float", "int8:channel×float"),
        ("tflite-micro", "Conv2d depthwise", "int8:channel×uint8 int4:channel×int8",
         "int8:tensor×uint8 uint8:channel×uint8 int2:channel×uint8 int8:channel×uint7 int8:channel×float"),
        ("tflite-micro", "folded", "int8:tensor×uint8 int4:tensor×uint8", "uint8:tensor×uint8"),
        ("tflite-micro", "Linear", "int8:tensor×uint8 int4:tensor×uint8 int8:channel×uint8",
         "int4:channel×uint8 uint8:tensor×uint8 int8:group32×uint8"),
        ("tflite-micro", "ConvTranspose2d", "int8:channel×uint8", "int4:channel×uint8"),
        ("tflite-micro", "Embedding", "int8:tensor×float", "int4:tensor×float int8:channel×float"),
        ("tflite-micro", "Conv3d", "", "int8:channel×uint8 int8:tensor×uint8"),
    ],
)  # fmt: skip
def test_what_each_engine_runs(name: str, kinds: str, runs: str, refused: str) -> None:
    target = load_target(name)
    for kind in kinds.split():
        for formats, expected in ((runs, True), (refused, False)):
            for text in formats.split():
                assert (_why_not(target, kind, text) is None) == expected, f"{kind} in {text}"


def _why_not(target: Target, kind: str, text: str) -> str | None:
    weight, activation = text.split("×")
    fmt = LayerFormat(Format.parse(weight), Format.parse(f"{activation}:tensor") if activation != "float" else None)
    return target.why_not(LAYERS[kind], fmt)


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_finds_a_format_in_the_space_that_a_target_tells(name: str) -> None:
    target = load_target(name)
    kinds = set(LAYERS) - NOT_RUN.get(name, set())
    formats = Choices.parse(target.space).formats(edge=True)
    for kind in kinds - {"Embedding"}:
        assert any(target.why_not(LAYERS[kind], fmt) is None for fmt in formats), kind


def test_an_unknown_target_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'onnxruntime'"):
        load_target("onnx-runtime")
    with pytest.raises(InputError, match=r"chip\.toml"):
        load_target(str(tmp_path / "chip.toml"))


def test_a_copied_table_is_the_same_target_under_another_name(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_bytes(table("snpe").read_bytes())
    mine, built = load_target(str(copy)), load_target("snpe")
    assert (mine.name, mine.rules) == ("mine", built.rules)
