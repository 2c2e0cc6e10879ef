"""What a packed model does beside computing: modes, gradients, moves, copies, its table."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import LayerFormat, ModelError, PackedModel
from eqnet.formats import Format
from eqnet.packed.record import Record
from tests.eqnet.packed.kinds import calibrated
from tests.eqnet.packed.models import trained


def packed(name: str, weight: str = "uint3:channel") -> tuple[PackedModel, Tensor]:
    model, x = trained(name)
    supernet = calibrated(model, x, "w=2-8:tensor,channel:sym,asym a=8:asym")
    return eqnet.pack(supernet, supernet.space.nearest(LayerFormat(Format.parse(weight), Format(8, False)))), x


def test_it_stays_in_evaluation_mode_also_inside_a_model_that_trains() -> None:
    within = nn.Sequential(packed("digits")[0], nn.Dropout())
    within.train()
    assert within[1].training
    assert not any(module.training for module in within[0].modules())


def test_gradients_pass_through_it_and_none_are_kept_in_it() -> None:
    model, x = packed("digits")
    adapter = nn.Conv2d(1, 1, 1)
    model(adapter(x)).square().sum().backward()
    assert adapter.weight.grad is not None
    assert adapter.weight.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in packed("tied weights")[0].parameters())


def test_its_layers_are_named_as_in_the_model() -> None:
    model, _ = packed("listed")
    assert list(model.layers) == ["one", "two"]
    assert all(layer is model.model.get_submodule(name) for name, layer in model.layers.items())
    assert model.model.also is model.layers["two"]
    assert all(layer.path == name for name, layer in model.layers.items())


def test_its_weights_answer_what_models_ask_of_them() -> None:
    weight = packed("digits")[0].bfloat16().layers["stem.0"].weight
    assert (weight.dtype, weight.shape, weight.device) == (torch.bfloat16, (16, 1, 3, 3), torch.device("cpu"))


def test_its_table_shows_formats_bytes_and_bits() -> None:
    model, _ = packed("tied weights")
    title, *rows = repr(model).splitlines()
    assert title == f"PackedModel of Language: {model.nbytes:,} bytes, {model.bpw:.2f} bits per weight"
    table = {row.split()[0]: row.split(maxsplit=2)[2] for row in rows}
    weight = 22 + 11 + 44 + 5  # codes in planes of 2 and 1 bits, 11 scales, 11 zero points in two planes
    assert table == {
        "embed": f"uint3:channel × float         {weight} bytes",
        "hidden": "uint3:channel × uint8:tensor  96 bytes",
        "head": "uint3:channel × uint8:tensor  5 bytes",
    }
    assert "with residual.0.bn1" in repr(packed("digits")[0])


@pytest.mark.parametrize("name", ["tied weights", "parts", "listed"])
def test_a_copy_is_the_same_model_with_what_is_shared_still_shared(name: str) -> None:
    model, x = packed(name)
    other = copy.deepcopy(model)
    assert torch.equal(other(x), model(x))
    assert (other.nbytes, other.tied()) == (model.nbytes, model.tied())
    assert other.layers.keys() == model.layers.keys()
    assert all(layer is other.model.get_submodule(key) for key, layer in other.layers.items())


def test_what_is_tied_stays_so_when_the_model_moves() -> None:
    model, _ = packed("tied weights")
    before = model.nbytes
    moved = copy.deepcopy(model).to("meta")
    assert moved.nbytes == before
    assert moved.layers["head"].codes is moved.layers["embed"].codes


def test_state_that_is_no_tensor_is_refused() -> None:
    class Odd(nn.Module):
        def get_extra_state(self) -> int:
            return 7

        def set_extra_state(self, state: int) -> None: ...

    with pytest.raises(ModelError, match="'_extra_state' is a int; only tensors can be stored"):
        PackedModel(Odd(), Record({})).stored()
