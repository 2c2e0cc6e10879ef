"""What was saved is loaded again, bit for bit, and what does not fit is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import eqnet
from eqnet import InputError, PackedModel, RunError
from eqnet.errors import MissingPackageError
from eqnet.packed.artifact import Artifact, write_artifact
from eqnet.tasks.networks import NETWORKS
from tests.eqnet.packed.kinds import KINDS, calibrated, made
from tests.eqnet.packed.models import MODELS, trained


def packed(name: str) -> tuple[PackedModel, Tensor]:
    model, x = trained(name)
    supernet = calibrated(model, x, "w=2-8:tensor,channel,group4:sym,asym a=2-8:sym,asym scale=fp16")
    return eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(2)), metadata={"seed": 2}), x


def same(found: PackedModel, expected: PackedModel) -> bool:
    a, b = found.state_dict(), expected.state_dict()
    return list(a) == list(b) and all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("given", ["module", "function"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_loaded_as_it_was_saved(name: str, given: str, tmp_path: Path) -> None:
    model, x = packed(name)
    model.save(tmp_path / "it")
    build = MODELS[name][0]
    loaded = eqnet.load(tmp_path / "it", build() if given == "module" else build)
    assert same(loaded, model)
    assert torch.equal(loaded(x), model(x))
    assert loaded.record == model.record
    assert (loaded.nbytes, loaded.tied(), repr(loaded)) == (model.nbytes, model.tied(), repr(model))
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    assert Artifact.open(tmp_path / "it").nbytes == model.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", KINDS)
def test_layers_of_every_kind_are_loaded(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    layer, x = made(name)
    x = x.to(dtype) if x.is_floating_point() else x
    supernet = calibrated(layer.to(dtype), x)
    model = eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(0)))
    model.save(tmp_path)
    kind, options, _ = KINDS[name]
    loaded = eqnet.load(tmp_path, lambda: kind(**options))
    assert same(loaded, model)
    assert loaded(x).dtype == dtype
    assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_eqnets_own_networks_need_no_model(name: str, tmp_path: Path) -> None:
    side = 8 if name == "DigitsNet" else 28
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, x = NETWORKS[name](classes=7).eval(), torch.rand(2, 1, side, side)
    supernet = calibrated(network, x, "w=4:channel:sym a=8:asym")
    model = eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))
    model.save(tmp_path)
    random = torch.get_rng_state()
    assert torch.equal(eqnet.load(tmp_path)(x), model(x))
    assert torch.equal(torch.get_rng_state(), random)


def test_a_fresh_process_loads_it_without_the_supernets_code(tmp_path: Path) -> None:
    model, x = packed("digits")
    model.save(tmp_path / "it")
    save_file({"x": x}, tmp_path / "x.safetensors")
    code = """
import sys, torch, eqnet
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
model = eqnet.load(sys.argv[1] + "/it")
save_file({"y": model(load_file(sys.argv[1] + "/x.safetensors")["x"])}, sys.argv[1] + "/y.safetensors")
print(*(name for name in sys.modules if name.startswith("eqnet.")))
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert torch.equal(load_file(tmp_path / "y.safetensors")["y"], model(x))
    assert not {"eqnet.supernet", "eqnet.conversion", "eqnet.training", "eqnet.packed.packing"} & set(
        run.stdout.split()
    )


def test_a_buffer_that_is_made_anew_has_the_type_that_it_had(tmp_path: Path) -> None:
    model, x = trained("tied weights")
    supernet = calibrated(model.bfloat16(), x, "w=4:channel:sym a=float")
    packed = eqnet.pack(supernet, supernet.space.subnet([0, 0]))
    packed.save(tmp_path)
    loaded = eqnet.load(tmp_path, MODELS["tied weights"][0])
    assert loaded.model.get_buffer("positions").dtype == torch.bfloat16
    assert torch.equal(loaded(x), packed(x))


def test_a_model_without_a_buffer_that_was_there_is_refused(tmp_path: Path) -> None:
    packed("tied weights")[0].save(tmp_path)

    def build() -> nn.Module:
        model = MODELS["tied weights"][0]()
        del model.positions
        return model

    with pytest.raises(InputError, match="Language has no buffer 'positions'"):
        eqnet.load(tmp_path, build)


def test_the_model_that_was_given_is_not_changed(tmp_path: Path) -> None:
    model, x = packed("parts")
    model.save(tmp_path)
    given = MODELS["parts"][0]().eval()
    before = {key: tensor.clone() for key, tensor in given.state_dict().items()}
    outputs = given(x)
    eqnet.load(tmp_path, given)
    assert {key: torch.equal(tensor, before[key]) for key, tensor in given.state_dict().items()} == dict.fromkeys(
        before, True
    )
    assert torch.equal(given(x), outputs)


def test_no_parameter_has_memory_while_the_model_is_built(tmp_path: Path) -> None:
    model, _ = packed("tied weights")
    model.save(tmp_path)
    seen = []

    def build() -> nn.Module:
        made = MODELS["tied weights"][0]()
        seen.extend(parameter.is_meta for parameter in made.parameters())
        return made

    eqnet.load(tmp_path, build)
    assert seen
    assert all(seen)


def test_modules_made_later_have_memory_again(tmp_path: Path) -> None:
    packed("parts")[0].save(tmp_path)
    eqnet.load(tmp_path, MODELS["parts"][0])
    with pytest.raises(InputError, match="model= failed"):
        eqnet.load(tmp_path, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert not nn.Linear(2, 2).weight.is_meta


def test_a_class_that_eqnet_does_not_know_is_asked_for_by_name(tmp_path: Path) -> None:
    packed("parts")[0].save(tmp_path)
    with pytest.raises(InputError, match=r"config\.json: holds a .*\.Parts that eqnet cannot build .* give model="):
        eqnet.load(tmp_path)


class Deeper(nn.Module):
    def __init__(self, **changes: nn.Module) -> None:
        super().__init__()
        parts = {"one": nn.Linear(4, 4), "norm": nn.BatchNorm1d(4), "two": nn.Linear(4, 4)}
        for name, module in {**parts, **changes}.items():
            self.add_module(name, module)
        self.also = self.two


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"two": nn.Linear(4, 5)},
            InputError,
            r"'two' is a Linear .* \(5, 4\); stored is a Linear with one of \(4, 4\)",
        ),
        ({"two": nn.ReLU()}, InputError, r"layer 'two' is a ReLU .* None; stored is a Linear"),
        ({"norm": nn.LayerNorm(4)}, InputError, "'norm' is a LayerNorm; expected a batch norm"),
        ({"extra": nn.LayerNorm(4)}, RunError, r"has no tensor 'extra\.weight'"),
    ],
    ids=["another shape", "another kind", "no batch norm", "one layer more"],
)
def test_another_model_is_refused_by_the_layers_name(
    changes: dict[str, nn.Module], error: type[Exception], message: str, tmp_path: Path
) -> None:
    packed("listed")[0].save(tmp_path)
    with pytest.raises(error, match=message):
        eqnet.load(tmp_path, Deeper(**changes))


def rewrite(folder: Path, tensors: Mapping[str, Tensor | None], config: Mapping[str, Any] | None = None) -> None:
    """Changes some tensors (None removes one) and entries of quantization_config, with checksums that are right."""
    artifact = Artifact.open(folder)
    old = {name: artifact.tensor(name).clone() for name in artifact.names}
    kept = {name: tensor for name, tensor in {**old, **tensors}.items() if tensor is not None}
    changed = json.loads(json.dumps(dict(artifact.config)))
    changed["quantization_config"].update(config or {})
    write_artifact(folder, changed, kept)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"gain": None}, "'gain'"),
        ({"more": torch.zeros(2)}, "has no place for tensor 'more'"),
        ({"gain": torch.zeros(4)}, r"tensor 'gain' is of shape \(4,\); the model's is of \(3,\)"),
        ({"first.scale": torch.zeros(3)}, r"'first\.scale' is float32 of shape \(3,\); .* float32 of shape \(2,\)"),
        ({"conv.codes": torch.zeros(2, dtype=torch.uint8)}, "layer 'conv': codes: expected uint8"),
        ({"conv.codes": None}, r"'conv\.codes'"),
        ({"conv.bias": torch.zeros(3)}, r"layer 'conv': bias: expected float32 of shape \(4,\)"),
        ({"conv.input_scale": torch.tensor([-1.0])}, "layer 'conv': input scale: expected a positive number"),
    ],
    ids=["missing", "unknown", "another shape", "norm of another shape", "codes of another size", "no codes",
         "bias of another shape", "negative range"],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused_by_name(
    tensors: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    model, _ = packed("parts")
    model.save(tmp_path)
    rewrite(tmp_path, tensors)
    with pytest.raises(RunError, match=message) as raised:
        eqnet.load(tmp_path, MODELS["parts"][0])
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    "config",
    [{"layers": None}, {"tied": 3}, {"tied": {"a": "nowhere"}}, {"layers": {"conv": {"kind": "Conv2d"}}}],
    ids=str,
)
def test_a_configuration_that_says_no_model_is_refused(config: dict[str, object], tmp_path: Path) -> None:
    packed("parts")[0].save(tmp_path)
    rewrite(tmp_path, {}, config)
    with pytest.raises(RunError, match=r"config\.json: quantization_config: "):
        eqnet.load(tmp_path, MODELS["parts"][0])


def test_an_architecture_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    packed("digits")[0].save(tmp_path)
    artifact = Artifact.open(tmp_path)
    tensors = {name: artifact.tensor(name).clone() for name in artifact.names}
    for architecture, message in (
        ({"network": "Digits", "arguments": {}}, "built in are ResNet, MobileNet, DigitsNet"),
        ({"network": "DigitsNet", "arguments": {"depth": 3}}, "DigitsNet cannot be built with {'depth': 3}"),
        ({"network": "DigitsNet", "arguments": {"classes": "3"}}, "built in are"),
    ):
        write_artifact(tmp_path, {**artifact.config, "architecture": architecture}, tensors)
        with pytest.raises(InputError, match=message):
            eqnet.load(tmp_path)


def test_what_model_raises_or_returns_instead_of_a_model_is_told(tmp_path: Path) -> None:
    packed("parts")[0].save(tmp_path)
    with pytest.raises(InputError, match=r"model= failed, .* \(ZeroDivisionError: division by zero\)"):
        eqnet.load(tmp_path, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="model= returned a int"):
        eqnet.load(tmp_path, lambda: 3)  # type: ignore[arg-type, return-value]


def test_a_transformers_model_without_transformers_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed("digits")[0].save(tmp_path)
    artifact = Artifact.open(tmp_path)
    config = {key: value for key, value in artifact.config.items() if key != "architecture"}
    tensors = {name: artifact.tensor(name).clone() for name in artifact.names}
    write_artifact(tmp_path, {**config, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}, tensors)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r"type 'llama' needs transformers .* pip install 'eqnet\[hf\]'"):
        eqnet.load(tmp_path)


def test_a_transformers_model_needs_no_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=61, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.LlamaForCausalLM(config).eval()
    x = torch.randint(0, 61, (2, 7), generator=torch.Generator().manual_seed(0))
    supernet = eqnet.elasticize(network, eqnet.Choices.parse("w=3,4:group16 a=float edge=none"), {"input_ids": x})
    supernet.calibrate([{"input_ids": x}])
    model = eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(0)))
    model.save(tmp_path)
    loaded = eqnet.load(tmp_path)
    assert type(loaded.model) is transformers.LlamaForCausalLM
    assert torch.equal(loaded(input_ids=x).logits, model(input_ids=x).logits)
    assert same(loaded, model)
    assert model.tied()["lm_head.codes"] == "model.embed_tokens.codes"
