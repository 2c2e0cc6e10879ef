"""Activating subnets, re-estimating batch norm, saving and restoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import eqnet
from eqnet import Choices, Format, InputError, LayerFormat, ModelError, RunError, Supernet


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(16, 3),
        ).eval()  # fmt: skip


@pytest.fixture
def inputs(generator: torch.Generator) -> list[torch.Tensor]:
    return [torch.randn(8, 1, 6, 6, generator=generator) for _ in range(3)]


@pytest.fixture
def supernet(inputs: list[torch.Tensor]) -> Supernet:
    made = eqnet.elasticize(network(), Choices.parse("w=2-8:channel:sym,asym a=2-8:asym"), inputs[0])
    made.calibrate(inputs)
    return made.eval()


def test_what_was_activated_is_active(supernet: Supernet, inputs: list[torch.Tensor]) -> None:
    assert supernet.active is None
    floating = supernet(inputs[0])
    subnet = supernet.space.draw(np.random.default_rng(0), "lowest")
    supernet.activate(subnet)
    assert supernet.active == subnet
    low = supernet(inputs[0])
    assert not torch.equal(low, floating)
    with supernet.running(None):
        assert torch.equal(supernet(inputs[0]), floating)
    assert torch.equal(supernet(inputs[0]), low)
    supernet.activate(None)
    assert torch.equal(supernet(inputs[0]), floating)


def test_running_restores_what_was_active_when_the_body_fails(supernet: Supernet) -> None:
    subnet = supernet.space.draw(np.random.default_rng(0))
    with pytest.raises(ZeroDivisionError), supernet.running(subnet):
        raise ZeroDivisionError
    assert supernet.active is None


@pytest.mark.parametrize("change", ["missing", "unknown", "outside"])
def test_a_subnet_of_another_space_is_refused_and_nothing_changes(supernet: Supernet, change: str) -> None:
    formats = dict(supernet.space.draw(np.random.default_rng(0)))
    if change == "missing":
        del formats["3"]
    elif change == "unknown":
        formats["body.7"] = formats["3"]
    else:
        formats["3"] = LayerFormat(Format(4, True), Format(4, False))  # per tensor
    name = "body.7" if change == "unknown" else "3"
    with pytest.raises(InputError, match=name):
        supernet.activate(formats)
    assert supernet.active is None


def test_weights_are_shared_between_formats(supernet: Supernet, inputs: list[torch.Tensor]) -> None:
    supernet.activate(supernet.space.draw(np.random.default_rng(0), "lowest"))
    before = supernet(inputs[0])
    with torch.no_grad():
        supernet.elastic["3"].weight.mul_(-1)
    assert not torch.equal(supernet(inputs[0]), before)
    supernet.activate(None)
    assert not torch.equal(supernet(inputs[0]), network()(inputs[0]))


def test_batch_norm_is_re_estimated_in_the_active_subnet(supernet: Supernet, inputs: list[torch.Tensor]) -> None:
    supernet.activate(supernet.space.draw(np.random.default_rng(0), "lowest"))
    supernet.reestimate_batch_norm(inputs)
    with torch.no_grad():
        outputs = [supernet.model[0](x).double().transpose(0, 1).flatten(1).numpy() for x in inputs]
    norm = supernet.batch_norms()[0]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert np.allclose(norm.running_mean.numpy(), np.mean([x.mean(1) for x in outputs], 0), atol=1e-6)
    assert np.allclose(norm.running_var.numpy(), np.mean([x.var(1, ddof=1) for x in outputs], 0), rtol=1e-5)
    assert norm.momentum == 0.1
    assert not norm.training


def test_without_data_nothing_is_lost(supernet: Supernet) -> None:
    norm = supernet.batch_norms()[0]
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    with pytest.raises(ModelError, match="empty"):
        supernet.reestimate_batch_norm([])
    assert torch.equal(norm.running_mean, before)
    with pytest.raises(ModelError, match="empty"):
        supernet.calibrate([])


def test_calibrating_again_gives_the_same_ranges(supernet: Supernet, inputs: list[torch.Tensor]) -> None:
    before = supernet.fingerprint()
    supernet.calibrate(inputs)
    assert supernet.fingerprint() == before
    supernet.calibrate([10 * x for x in inputs])
    assert supernet.fingerprint() != before


def test_what_is_saved_is_restored(supernet: Supernet, inputs: list[torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    supernet.save(path, {"note": "kept"})
    other = eqnet.elasticize(network(), Choices.parse("w=2-8:channel:sym,asym a=2-8:asym"), inputs[0]).eval()
    assert other.fingerprint() != supernet.fingerprint()
    assert other.restore(path)["note"] == "kept"
    assert other.fingerprint() == supernet.fingerprint()
    subnet = supernet.space.draw(np.random.default_rng(1))
    with supernet.running(subnet), other.running(subnet):
        assert torch.equal(other(inputs[0]), supernet(inputs[0]))


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path: Path) -> None:
    def tied() -> Supernet:
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
        model[2].weight = model[0].weight
        return eqnet.elasticize(model, Choices.parse("w=4:tensor:sym a=float edge=none"), torch.zeros(1, 4))

    first, second = tied(), tied()
    first.save(tmp_path / "tied.safetensors")
    assert sum(name.endswith(".weight") for name in load_file(tmp_path / "tied.safetensors")) == 1
    second.restore(tmp_path / "tied.safetensors")
    assert torch.equal(second.elastic["2"].weight, first.elastic["0"].weight)
    assert second.elastic["2"].weight is second.elastic["0"].weight


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "not safetensors", "another space"])
def test_a_bad_file_is_refused_by_name(supernet: Supernet, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "supernet.safetensors"
    supernet.save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "foreign":
        save_file({"x": torch.zeros(2)}, path)
    elif damage == "not safetensors":
        path.write_bytes(b"PK\x03\x04" * 10)
    else:
        other = eqnet.elasticize(network(), Choices.parse("w=2:tensor:sym a=2:asym"), torch.zeros(1, 1, 6, 6))
        other.save(path)
    before = supernet.fingerprint()
    with pytest.raises(RunError, match=r"supernet\.safetensors"):
        supernet.restore(path)
    assert supernet.fingerprint() == before


def test_a_file_of_another_model_with_the_same_space_changes_nothing(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.fc, self.name = nn.Linear(3, 2), name
            self.register_parameter(name, nn.Parameter(torch.ones(2)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc(x) * self.get_parameter(self.name)
            return y

    first, second = (eqnet.elasticize(Scaled(name), None, torch.zeros(1, 3)) for name in ("gain", "scale"))
    assert first.space.fingerprint() == second.space.fingerprint()
    first.save(tmp_path / "first")
    before = second.fingerprint()
    with pytest.raises(RunError, match=r"first: does not fit the model .*model\.gain, model\.scale"):
        second.restore(tmp_path / "first")
    assert second.fingerprint() == before
