"""From a trained model to its supernet."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices, Format, Granularity, InputError, LayerFormat, ModelError, Supernet
from eqnet.layers import Elastic

EIGHT_BITS = 0.05
"""Largest error of an 8-bit network's outputs, as a share of the largest output: a few steps of 1/256."""


class Shared(nn.Module):
    """One linear layer that is called twice, between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.twice(torch.relu(self.twice(torch.relu(self.first(x)))))))


class Language(nn.Module):
    """An embedding whose table is also the output layer's weight, around separate query, key and value."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        weights = torch.softmax(self.q_proj(x) @ self.k_proj(x).transpose(1, 2), -1)
        return self.head(weights @ self.v_proj(x))


class OneDimensional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(4, 8, 3, dilation=2), nn.ReLU(), nn.Conv1d(8, 8, 3, groups=8), nn.ConvTranspose1d(8, 4, 4, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def under_two_names() -> nn.Module:
    middle = nn.Linear(6, 6)
    return nn.Sequential(nn.Linear(4, 6), middle, nn.ReLU(), middle, nn.ReLU(), nn.Linear(6, 2))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[torch.Generator], Tensor]]] = {
    "linear on 2-D": (perceptron, lambda g: torch.randn(4, 5, generator=g)),
    "linear on 3-D": (perceptron, lambda g: torch.randn(4, 3, 5, generator=g)),
    "called twice": (Shared, lambda g: torch.randn(4, 6, generator=g)),
    "one module under two names": (under_two_names, lambda g: torch.randn(4, 4, generator=g)),
    "tied weights": (Language, lambda g: torch.randint(0, 11, (4, 6), generator=g)),
    "1-D, dilated, depthwise, transposed": (OneDimensional, lambda g: torch.randn(2, 4, 16, generator=g)),
    "2-D, grouped, batch norm": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3, groups=4)
        ),
        lambda g: torch.randn(2, 4, 9, 9, generator=g),
    ),
    "3-D": (
        lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.ReLU(), nn.ConvTranspose3d(4, 2, 2, bias=False)),
        lambda g: torch.randn(2, 2, 5, 5, 5, generator=g),
    ),
    "one layer": (lambda: nn.Linear(3, 2), lambda g: torch.randn(4, 3, generator=g)),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), 1),
        lambda g: torch.randn(3, 5, 8, generator=g),
    ),
}  # fmt: skip
"""Models of every kind that has to be taken, each with a batch of inputs."""


@pytest.fixture(params=MODELS, ids=str)
def made(request: pytest.FixtureRequest, generator: torch.Generator) -> tuple[nn.Module, Tensor]:
    build, inputs = MODELS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval(), inputs(generator)


def calibrated(model: nn.Module, x: Any, space: str = "default", **options: Any) -> Supernet:
    supernet = eqnet.elasticize(model, Choices.parse(space), x, **options)
    supernet.calibrate([x])
    return supernet.eval()


def uniform(bits: int, *, symmetric: bool = True) -> LayerFormat:
    return LayerFormat(Format(bits, symmetric, Granularity.CHANNEL), Format(bits, False))


def test_in_floating_point_it_is_the_model_itself(made: tuple[nn.Module, Tensor]) -> None:
    model, x = made
    supernet = calibrated(model, x)
    torch.testing.assert_close(supernet(x), model(x))  # channels-last, some sums are taken in another order


def test_eight_bits_are_close_to_the_model_and_two_are_not(made: tuple[nn.Module, Tensor]) -> None:
    model, x = made
    supernet = calibrated(model, x, "w=2-8:tensor,channel:sym,asym a=2-8:asym edge=none")
    reference = model(x)
    errors = {}
    for bits in (8, 2):
        supernet.activate(supernet.space.nearest(uniform(bits)))
        errors[bits] = ((supernet(x) - reference).abs().max() / reference.abs().max()).item()
    assert errors[8] < EIGHT_BITS
    assert errors[2] > 2 * errors[8]


def test_the_given_model_and_all_random_state_stay_as_they_were(made: tuple[nn.Module, Tensor]) -> None:
    model, x = made
    model.train()
    before = copy.deepcopy(model.state_dict())
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr,index]
    supernet = calibrated(model, x)
    supernet.activate(supernet.space.nearest(uniform(3)))
    supernet(x)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert not any(isinstance(module, Elastic) for module in model.modules())
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # type: ignore[index]
    assert states[2] == random.getstate()


class Flattened(nn.Module):
    """A convolution whose output is seen, by a view, as one row a sample: in memory it must be in the usual order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.head(y.view(len(y), -1))


def test_a_view_of_a_convolutions_output_still_works(generator: torch.Generator) -> None:
    model, x = Flattened(), torch.randn(3, 2, 5, 5, generator=generator)
    supernet = eqnet.elasticize(model, Choices.parse("default"), x)
    supernet.calibrate([x])
    torch.testing.assert_close(supernet(x), model(x))
    supernet.activate(supernet.space.draw(np.random.default_rng(0)))
    supernet.train()(x).sum().backward()
    assert supernet.model.conv.weight.grad is not None


def test_outputs_are_in_the_usual_order(generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    x = torch.randn(3, 2, 8, 8, generator=generator)
    supernet = eqnet.elasticize(model, Choices.parse("default"), x)
    supernet.calibrate([x])
    torch.testing.assert_close(supernet(x).view(3, -1), model(x).view(3, -1))


def test_a_tied_weight_is_one_set_that_is_stored_once() -> None:
    supernet = eqnet.elasticize(Language(), Choices.parse("default"), torch.zeros(1, 4, dtype=torch.long))
    sets = {tuple(layer.name for layer in tied.layers): tied for tied in supernet.space.sets}
    assert set(sets) == {("embed", "head"), ("q_proj", "k_proj", "v_proj")}
    assert [layer.stored for layer in sets["embed", "head"].layers] == [True, False]
    assert supernet.elastic["embed"].weight is supernet.elastic["head"].weight
    assert supernet.space.weight_only == {"embed"}


def test_members_of_a_tied_set_always_share_a_format() -> None:
    x = torch.zeros(1, 4, dtype=torch.long)
    space = eqnet.elasticize(Language(), Choices.parse("w=2-8:channel:sym a=2-8:asym edge=none"), x).space
    rng = np.random.default_rng(0)
    for _ in range(20):
        subnet = space.draw(rng)
        assert subnet["q_proj"] == subnet["k_proj"] == subnet["v_proj"]
        assert subnet["embed"].weight == subnet["head"].weight
        assert subnet["embed"].activation is None
    mixed = dict(subnet) | {"k_proj": uniform(2 if subnet["k_proj"].weight.bits != 2 else 3)}
    with pytest.raises(InputError, match="k_proj"):
        space.genes(mixed)


def test_the_user_ties_layers_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    space = eqnet.elasticize(model, None, torch.zeros(1, 4), tied=[("0", "2")]).space
    assert [[layer.name for layer in tied.layers] for tied in space.sets] == [["0", "2"], ["1"]]
    with pytest.raises(InputError, match="'3' is not an elastic layer"):
        eqnet.elasticize(model, None, torch.zeros(1, 4), tied=[("0", "3")])


def test_the_first_and_the_last_layer_that_run_keep_eight_bits() -> None:
    class Backwards(nn.Module):
        """Declares its layers in another order than it runs them."""

        def __init__(self) -> None:
            super().__init__()
            self.last, self.middle, self.first = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.middle(self.first(x)))

    space = eqnet.elasticize(Backwards(), Choices.parse("default"), torch.zeros(1, 4)).space
    widths = {tied.name: {choice.weight.bits for choice in tied.choices} for tied in space.sets}
    assert widths == {"first": {8}, "middle": set(range(2, 9)), "last": {8}}
    free = eqnet.elasticize(Backwards(), Choices.parse("w=2-4:channel:sym edge=none"), torch.zeros(1, 4)).space
    assert all({choice.weight.bits for choice in tied.choices} == {2, 3, 4} for tied in free.sets)


def test_a_layer_called_twice_counts_its_work_twice_and_its_weights_once() -> None:
    layers = {layer.name: layer for layer in eqnet.elasticize(Shared(), None, torch.zeros(1, 6)).space.layers}
    assert layers["twice"].macs == 2 * 64
    assert layers["twice"].weights == 64


def test_a_module_under_two_names_is_one_layer(tmp_path: Path) -> None:
    model, x = under_two_names(), torch.zeros(3, 4)
    supernet = calibrated(model, x)
    assert [layer.name for layer in supernet.space.layers] == ["0", "1", "5"]
    assert supernet.space.layers[1].macs == 2 * 36
    assert not supernet.left_alone
    supernet.save(tmp_path / "saved")
    other = eqnet.elasticize(model, None, x)
    other.restore(tmp_path / "saved")
    assert other.fingerprint() == supernet.fingerprint()


def test_what_is_left_alone_is_named_with_the_reason() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)
            self.bilinear = nn.Bilinear(4, 4, 4)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.normed(self.bilinear(self.used(x), x))

    left = eqnet.elasticize(Odd(), None, torch.zeros(1, 4)).left_alone
    assert left["spare"] == "it is never called on the example inputs"
    assert "no elastic form of Bilinear" in left["bilinear"]
    assert "parametrized" in left["normed"]
    assert "used" not in left


@pytest.mark.parametrize("bad", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_bad_weights_are_refused_by_the_layers_name(bad: float) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[1].weight[2, 1] = bad
    with pytest.raises(ModelError, match="layer '1': its weight holds inf or NaN"):
        eqnet.elasticize(model, None, torch.zeros(1, 4))


def test_a_bad_bias_is_refused_like_a_bad_weight() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[1].bias[2] = float("nan")
    with pytest.raises(ModelError, match="layer '1': its bias holds inf or NaN"):
        eqnet.elasticize(model, None, torch.zeros(1, 4))


def test_bad_inputs_are_refused_by_the_layers_name() -> None:
    supernet = eqnet.elasticize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), None, torch.zeros(1, 4))
    x = torch.zeros(3, 4)
    x[1, 2] = float("nan")
    with pytest.raises(ModelError, match="layer '0': its calibration inputs hold inf or NaN"):
        supernet.calibrate([x])


def test_a_layer_that_calibration_never_reaches_is_named() -> None:
    class Experts(nn.Module):
        """Sends each sample to one of two layers."""

        def __init__(self) -> None:
            super().__init__()
            self.plus, self.minus = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            positive = x.sum(1) > 0
            return torch.cat([self.plus(x[positive]), self.minus(x[~positive])])

    x = torch.ones(3, 4)
    supernet = eqnet.elasticize(Experts(), None, torch.cat([x, -x]))
    supernet.calibrate([x, -x])
    with pytest.raises(ModelError, match="layer 'minus': the calibration data never reaches it"):
        supernet.calibrate([x, x])
    with pytest.raises(ModelError, match="layer 'plus': the calibration data never reaches it"):
        supernet.calibrate([x[:0]])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.ReLU()), "no layer that can be quantized"),
        (nn.Sequential(nn.Linear(3, 2)), "does not run on the example inputs"),
    ],
    ids=["no layers", "wrong inputs"],
)
def test_models_that_cannot_be_taken_say_why(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        eqnet.elasticize(model, None, torch.zeros(1, 4))


def test_example_inputs_are_needed_and_may_be_tuples_or_keywords() -> None:
    with pytest.raises(InputError, match="needs example_inputs"):
        eqnet.elasticize(nn.Linear(4, 2))
    bilinear = nn.Sequential(nn.Linear(4, 2))
    assert eqnet.elasticize(bilinear, None, (torch.zeros(2, 4),)).space.layers[0].macs == 8
    assert eqnet.elasticize(bilinear, None, {"input": torch.zeros(2, 4)}).space.layers[0].macs == 8


def test_what_is_elastic_already_is_refused() -> None:
    supernet = eqnet.elasticize(nn.Linear(4, 2), None, torch.zeros(1, 4))
    with pytest.raises(ModelError, match="elastic already"):
        eqnet.elasticize(supernet, None, torch.zeros(1, 4))


def test_elasticize_stays_a_function_after_its_first_use() -> None:
    eqnet.elasticize(nn.Linear(4, 2), None, torch.zeros(1, 4))
    assert callable(eqnet.elasticize)
