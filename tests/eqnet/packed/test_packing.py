"""A packed model is the subnet that was packed: in its codes, its weights, its outputs and its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Format, InputError, LayerFormat, ModelError, PackedModel, Supernet
from eqnet.packed.layers import ChannelAffine
from eqnet.search.cost import CostModel
from tests.eqnet.packed.kinds import FORMATS, KINDS, calibrated, made
from tests.eqnet.packed.models import MODELS, trained

INPUT = Format.parse("uint8:tensor")

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

SUMS = 2e-6
"""Largest error of an output, over the largest output: float32 sums of at most 43 products in two orders."""

HALF = 2e-3
"""The same where folded scales are rounded to fp16: 2⁻¹¹ each, and up to twice as much after sums that cancel."""

STACKED = 2e-5
"""Largest error over the largest output after ten layers, each of which may add ``SUMS``."""


def draws(supernet: Supernet, count: int) -> list[eqnet.Subnet]:
    rng = np.random.default_rng(0)
    kinds = ["lowest", "highest"] + (count - 2) * ["any"]
    return [supernet.space.draw(rng, kind) for kind in kinds]


def error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="module")
def models() -> Callable[[str], tuple[Supernet, Tensor]]:
    cache: dict[str, tuple[Supernet, Tensor]] = {}

    def get(name: str) -> tuple[Supernet, Tensor]:
        if name not in cache:
            model, x = trained(name)
            cache[name] = calibrated(model, x, "w=2-8:tensor,channel,group4:sym,asym a=2-8:sym,asym"), x
        return cache[name]

    return get


@pytest.mark.parametrize("name", MODELS)
def test_it_takes_the_bytes_that_the_budget_counts(models: Callable[[str], tuple[Supernet, Tensor]], name: str) -> None:
    supernet, _ = models(name)
    prices = CostModel(supernet.space)
    for subnet in draws(supernet, 6):
        packed, cost = eqnet.pack(supernet, subnet), prices.cost(subnet)
        assert packed.nbytes == cost.bytes
        assert packed.bpw == cost.bpw


def test_half_precision_scales_take_the_bytes_that_the_budget_counts() -> None:
    supernet = calibrated(*trained("parts"), "w=2-8:tensor,channel,group4:sym,asym scale=fp16")
    for subnet in draws(supernet, 4):
        assert eqnet.pack(supernet, subnet).nbytes == CostModel(supernet.space).cost(subnet).bytes


@pytest.mark.parametrize("name", MODELS)
def test_its_outputs_are_those_of_the_subnet(models: Callable[[str], tuple[Supernet, Tensor]], name: str) -> None:
    supernet, x = models(name)
    for subnet in draws(supernet, 4):
        packed = eqnet.pack(supernet, subnet)
        with supernet.running(subnet), torch.no_grad():
            assert error(packed(x), supernet(x)) < STACKED


def test_top_1_is_that_of_the_subnet_with_batch_norm_re_estimated() -> None:
    model, x = trained("digits")
    supernet = calibrated(model, x, "w=2-8:tensor,channel a=2-8:asym")
    images = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for subnet in draws(supernet, 4):
        packed = eqnet.pack(supernet, subnet, [images[:100], images[100:200]])
        with supernet.running(subnet), torch.no_grad():
            supernet.reestimate_batch_norm([images[:100], images[100:200]])
            assert torch.equal(packed(images).argmax(1), supernet(images).argmax(1))


FOLDABLE = [name for name in KINDS if name not in ("linear on 4-D", "conv2d without a batch", "embedding")]


@pytest.fixture(scope="module", params=[32, 16], ids=["fp32", "fp16"])
def folded(request: pytest.FixtureRequest) -> dict[str, tuple[Supernet, Tensor]]:
    """A supernet of each kind of layer with a batch norm after it."""
    supernets = {}
    for name in FOLDABLE:
        layer, x = made(name)
        norm = NORMS[max(x.ndim - 2, 1)](getattr(layer, "out_channels", getattr(layer, "out_features", 0)))
        model = nn.Sequential(layer, norm).eval()
        generator = torch.Generator().manual_seed(0)
        for part in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            part.data.uniform_(-1, 1, generator=generator)
        norm.running_var.abs_().add_(0.1)
        norm.weight.data[0] = 0.0  # a channel that the training has switched off
        text = f"w=2-8:tensor,channel,group16,group32 a=8:asym scale=fp{request.param}"
        supernets[name] = calibrated(model, x, text), x
    return supernets


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_a_folded_batch_norm_changes_scales_and_bias_and_no_code(
    fmt: Format, folded: dict[str, tuple[Supernet, Tensor]]
) -> None:
    for name, (supernet, x) in folded.items():
        subnet = {"0": LayerFormat(fmt, INPUT)}
        packed = eqnet.pack(supernet, subnet)
        weight, elastic = packed.layers["0"].weight, supernet.elastic["0"]
        assert type(packed.model[1]) is nn.Identity
        assert torch.equal(weight.integers(), elastic.weight_quantizer.codes(elastic.matrix(), fmt)), name
        zero_points = elastic.weight_quantizer.integer_zero_point(fmt).short()
        assert torch.equal(weight.zero_points(), zero_points.expand(weight.scale.shape)), name
        assert packed.nbytes == CostModel(supernet.space).cost(subnet).bytes
        with supernet.running(subnet), torch.no_grad():
            assert error(packed(x), supernet(x)) < (SUMS if supernet.space.scale_bits == 32 else HALF), name


def test_folding_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, eps=0.0)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0], [-4.0, 1.0]]))
        model[0].bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 0.0]))
        model[1].bias.copy_(torch.tensor([0.5, 0.5, 0.5]))
        model[1].running_mean.copy_(torch.tensor([1.0, 0.0, 7.0]))
        model[1].running_var.copy_(torch.tensor([4.0, 16.0, 1.0]))
    supernet = calibrated(model, torch.rand(4, 2), "w=4:tensor:asym a=float")
    quantizer = supernet.elastic["0"].weight_quantizer
    with torch.no_grad():
        quantizer.log_scale["uint4:tensor"].zero_()  # a scale of 1
        quantizer.zero_point["uint4:tensor"].fill_(5)
        supernet.elastic["0"].weight[0, 0] = 1.25  # rounds to 1
    layer = eqnet.pack(supernet, {"0": LayerFormat(Format.parse("uint4:tensor"))}).layers["0"]
    assert layer.weight_format == Format.parse("uint4:channel")
    assert layer.weight.integers().tolist() == [[6, 3], [8, 5], [1, 6]]
    assert layer.weight.zero_points().tolist() == [[5], [5], [5]]
    assert layer.weight.scale.tolist() == [[0.5], [-0.5], [0.0]]  # γ / √var
    assert layer.bias is not None
    assert layer.bias.tolist() == [0.5, -0.5, 0.5]  # β + (bias - mean) · γ / √var


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (2, 3, 4, 5), (1, 3, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_what_is_left_of_another_batch_norm_computes_the_same(shape: tuple[int, ...], affine: bool) -> None:
    norm = NORMS[max(len(shape) - 2, 1)](3, affine=affine).eval()
    generator = torch.Generator().manual_seed(0)
    for part in (norm.running_mean, norm.running_var, *norm.parameters()):
        part.data.uniform_(0.1, 1, generator=generator)
    model = nn.Sequential(nn.ReLU(), norm, nn.Flatten(), nn.Linear(np.prod(shape[1:]), 2))
    x = torch.randn(shape, generator=generator)
    packed = eqnet.pack(supernet := calibrated(model, x), supernet.space.draw(np.random.default_rng(0)))
    left = packed.model[1]
    assert type(left) is ChannelAffine
    assert {name: part.dtype for name, part in left.state_dict().items()} == dict.fromkeys(
        ("scale", "shift"), torch.float32
    )
    torch.testing.assert_close(left(x), norm(x))
    assert left(x.bfloat16()).dtype == torch.bfloat16


def test_packing_leaves_the_supernet_exactly_as_it_was(models: Callable[[str], tuple[Supernet, Tensor]]) -> None:
    supernet, x = models("parts")
    subnet, other = draws(supernet, 2)
    supernet.activate(other)
    state = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    random = torch.get_rng_state()
    packed = eqnet.pack(supernet, subnet, [x])
    assert supernet.active == other
    assert {name: torch.equal(tensor, state[name]) for name, tensor in supernet.state_dict().items()} == dict.fromkeys(
        state, True
    )
    assert torch.equal(torch.get_rng_state(), random)
    with pytest.raises(ModelError, match="empty"):
        eqnet.pack(supernet, subnet, [])
    assert supernet.active == other
    supernet.activate(None)
    assert not torch.equal(packed(x), eqnet.pack(supernet, subnet)(x)), "re-estimated or not makes a difference"


@pytest.mark.parametrize("name", ["tied weights", "parts", "listed"])
def test_what_the_supernet_learns_later_does_not_change_the_packed_model(name: str) -> None:
    model, x = trained(name)
    supernet = calibrated(model, x, "w=4:channel a=8:asym")
    packed = eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))
    before = {key: tensor.clone() for key, tensor in packed.state_dict().items()}
    with torch.no_grad():
        for tensor in supernet.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(tensor, before[key]) for key, tensor in packed.state_dict().items())


def test_layers_that_share_a_weight_share_what_is_stored(models: Callable[[str], tuple[Supernet, Tensor]]) -> None:
    supernet, _ = models("tied weights")
    packed = eqnet.pack(supernet, draws(supernet, 2)[0])
    embed, head = packed.layers["embed"], packed.layers["head"]
    assert head.codes is embed.codes
    assert head.scale is embed.scale
    assert packed.tied()["head.codes"] == "embed.codes"


def test_a_float_copy_of_a_shared_weight_is_kept_apart_from_the_supernet() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(5, 3, max_norm=9.0), nn.Linear(3, 5, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.table(x))
            return y

    supernet = calibrated(Shared(), torch.tensor([[0, 1]]), "w=4:channel a=float")
    subnet = supernet.space.subnet([0])
    packed = eqnet.pack(supernet, subnet)
    assert packed.nbytes == CostModel(supernet.space).cost(subnet).bytes
    before = packed.model.table.weight.clone()
    with torch.no_grad():
        supernet.elastic["head"].weight.add_(1)
    assert torch.equal(packed.model.table.weight, before)


def spoil(supernet: Supernet, where: str) -> None:
    layer, norm = supernet.elastic["2"], supernet.batch_norms()[0]
    assert layer.input_quantizer is not None
    bad = float("nan")
    with torch.no_grad():
        match where:
            case "weight":
                layer.weight[0, 0] = bad
            case "weight scale":
                layer.weight_quantizer.log_scale["int4:channel"][0] = bad
            case "bias":
                layer.get_parameter("bias")[0] = bad
            case "input scale":
                layer.input_quantizer.log_scale["uint8:tensor"][0] = bad
            case "statistics":
                norm.get_buffer("running_var")[0] = -1.0
            case "other parameter":
                supernet.model.get_parameter("3.weight")[0] = bad


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("weight", "layer '2': its weight holds inf or NaN"),
        ("weight scale", "layer '2': its scale holds inf or NaN"),
        ("bias", "layer '2': its bias holds inf or NaN"),
        ("input scale", "layer '2': its input scale holds inf or NaN"),
        ("statistics", "layer '0' with its batch norm: its scale holds inf or NaN"),
        ("other parameter", "parameter '3.weight' holds inf or NaN"),
    ],
)
def test_inf_and_nan_are_refused_by_the_layers_name(where: str, message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.LayerNorm(4))
    supernet = calibrated(model.eval(), torch.randn(8, 4), "w=4:channel:sym a=8:asym")
    spoil(supernet, where)
    with pytest.raises(ModelError, match=message):
        eqnet.pack(supernet, supernet.space.subnet([0, 0]))


def test_a_folded_scale_beyond_half_precision_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    model[1].weight.data[1] = 1e9
    supernet = calibrated(model, torch.randn(8, 4), "w=4:channel:sym a=float scale=fp16")
    with pytest.raises(ModelError, match=r"layer '0' with its batch norm: .* too large for float16; .* scale=fp32"):
        eqnet.pack(supernet, supernet.space.subnet([0]))


def test_a_supernet_without_ranges_is_refused() -> None:
    supernet = eqnet.elasticize(nn.Linear(4, 4), None, torch.zeros(1, 4))
    with pytest.raises(ModelError, match="have no ranges yet; call calibrate"):
        eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(0)))


def test_a_subnet_of_another_space_is_refused(models: Callable[[str], tuple[Supernet, Tensor]]) -> None:
    supernet, _ = models("listed")
    subnet = dict(draws(supernet, 2)[0])
    with pytest.raises(InputError, match="disagree on these layers: one"):
        eqnet.pack(supernet, {name: fmt for name, fmt in subnet.items() if name != "one"})
    subnet["one"] = replace(subnet["one"], weight=Format.parse("int4:group7"))
    with pytest.raises(InputError, match=r"outside the elastic space .*one: int4:group7"):
        eqnet.pack(supernet, subnet)


def test_the_record_names_what_was_done(models: Callable[[str], tuple[Supernet, Tensor]]) -> None:
    supernet, _ = models("parts")
    subnet = supernet.space.nearest(LayerFormat(Format.parse("int5:tensor"), Format.parse("uint6:tensor")))
    packed = eqnet.pack(supernet, subnet, metadata={"accuracy": 0.9})
    assert isinstance(packed, PackedModel)
    assert packed.record.folded == {"folded": "conv", "upped": "up"}
    assert packed.record.affine == ("first", "plain")
    assert {name: str(layer.weight) for name, layer in packed.record.layers.items()} == {
        "conv": "int5:channel",
        "up": "int5:channel",
        "fc": "int5:tensor",
    }
    assert packed.record.layers["up"].shape == (4, 3, 2, 2)
    assert packed.record.metadata == {"accuracy": 0.9}
