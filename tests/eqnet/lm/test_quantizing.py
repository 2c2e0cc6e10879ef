"""Packing block by block, against the same done on the whole model at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eqnet.errors import InputError
from eqnet.formats import Format, LayerFormat
from eqnet.lm.distilling import Distillation
from eqnet.lm.methods import METHODS
from eqnet.lm.quantizing import quantize
from eqnet.lm.source import Source, open_source
from eqnet.lm.structure import tied_sets
from eqnet.packed.dequantizing import dequantized
from eqnet.subnet import Subnet
from tests.eqnet.lm.models import CONFIGS, random_ids, random_model

pytest.importorskip("transformers")

FAMILIES = list(CONFIGS)
IDS = random_ids(16, 32)


def subnet_of(source: Source, *formats: str) -> Subnet:
    """The formats in turn, one for each tied set."""
    parsed = [LayerFormat(Format.parse(text), None) for text in formats]
    sets = tied_sets(source.skeleton())
    return Subnet({path: parsed[i % len(parsed)] for i, tied in enumerate(sets) for path in tied})


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    random_model(request.param).save_pretrained(tmp_path / "model")
    return open_source(tmp_path / "model")


@pytest.fixture
def llama(tmp_path: Path) -> Source:
    random_model("llama").save_pretrained(tmp_path / "model")
    return open_source(tmp_path / "model")


def test_without_text_every_weight_is_rounded_by_itself(family: Source) -> None:
    packed = quantize(family, subnet_of(family, "uint4:group32", "int3:channel"), method="rtn")
    exact = family.load()
    for name, layer in packed.layers.items():
        weight = exact.get_submodule(name).weight.detach()
        expected = METHODS["rtn"].quantize(weight, layer.weight_format)
        torch.testing.assert_close(layer.weight.dequantize(), expected.dequantize(), rtol=0, atol=0)
    logits = packed(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(logits, dequantized(packed)(input_ids=IDS, use_cache=False).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2", "glm", "glm4"], indirect=True)  # whose table is not the head
def test_blocks_see_what_the_packed_ones_before_them_make_of_the_text(family: Source) -> None:
    """With GPTQ's codes of the second block taken anew from the inputs that it has in the packed model."""
    packed = quantize(family, subnet_of(family, "uint3:group32"), method="gptq", ids=IDS)
    model, exact = dequantized(packed), family.load()
    names = [name for name in packed.layers if ".1." in name]
    first = [name for name in names if not any(word in name for word in ("o_proj", "down", "c_proj", "dense"))]
    seen: dict[str, torch.Tensor] = {}
    for name in first:
        model.get_submodule(name).register_forward_pre_hook(lambda _m, given, name=name: seen.update({name: given[0]}))
    # Of the second block, the layers that the input reaches as the block is given it are those of attention.
    model(input_ids=IDS, use_cache=False)
    attention = [name for name in first if "attn" in name]
    assert attention
    for name in attention:
        x = seen[name].flatten(0, -2).double()
        hessian = (x.T @ x / len(x)).float()
        weight, fmt = exact.get_submodule(name).weight.detach(), packed.layers[name].weight_format
        expected = METHODS["gptq"].quantize(weight, fmt, hessian=hessian).dequantize()
        found = packed.layers[name].weight.dequantize()
        # The two Hessians are equal up to the order of their sums, which may flip a code that is nearly between two.
        assert (found != expected).float().mean() < 0.01


@pytest.mark.parametrize(("method", "worse"), [("gptq", "rtn"), ("distill", "gptq")])
def test_better_methods_are_nearer_to_the_model(llama: Source, method: str, worse: str) -> None:
    subnet = subnet_of(llama, "uint3:group32")
    exact = llama.load()(input_ids=IDS, use_cache=False).logits.detach().log_softmax(-1)

    def divergence(method: str) -> float:
        few = Distillation(steps=20)
        packed = quantize(llama, subnet, method=method, ids=IDS, distillation=few)
        found = packed(input_ids=IDS, use_cache=False).logits.log_softmax(-1)
        return float((exact.exp() * (exact - found)).sum(-1).mean())

    assert divergence(method) < divergence(worse)


def test_the_same_text_gives_the_same_codes(llama: Source) -> None:
    a, b = (quantize(llama, subnet_of(llama, "uint3:group16"), method="gptq", ids=IDS) for _ in range(2))
    assert all(torch.equal(tensor, b.stored()[name]) for name, tensor in a.stored().items())


def test_what_is_given_is_checked(llama: Source) -> None:
    subnet = subnet_of(llama, "int4:channel")
    with pytest.raises(InputError, match="--method awq: is unknown; choose rtn, mse, gptq, distill, qat"):
        quantize(llama, subnet, method="awq")
    with pytest.raises(InputError, match="needs calibration text"):
        quantize(llama, subnet)
    missing = Subnet({name: fmt for name, fmt in subnet.items() if name != "lm_head"})
    with pytest.raises(InputError, match="no format for layer 'lm_head'"):
        quantize(llama, missing, method="rtn")
    with pytest.raises(InputError, match="has layer 'other'"):
        quantize(llama, Subnet({**subnet, "other": subnet["lm_head"]}), method="rtn")
    active = LayerFormat(Format.parse("int4:channel"), Format.parse("uint8:tensor"))
    with pytest.raises(InputError, match="quantizes activations"):
        quantize(llama, Subnet({**subnet, "lm_head": active}), method="rtn")
