"""The training of all codes of a model together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eqnet.formats import Format, LayerFormat
from eqnet.lm.assembling import assembled
from eqnet.lm.qat import NOTHING_GAINED, QuantizationAwareTraining
from eqnet.lm.quantizing import quantize
from eqnet.lm.rounded import Rates
from eqnet.lm.source import Source, open_source
from eqnet.lm.structure import tied_sets
from eqnet.packed.model import PackedModel
from eqnet.packed.tensor import PackedTensor
from eqnet.subnet import Subnet
from tests.eqnet.lm.models import random_ids, random_model

pytest.importorskip("transformers")

IDS = random_ids(64, 64)
UNSEEN = random_ids(16, 64, seed=1)

SHORT = QuantizationAwareTraining(steps=60, batch=4)

GAIN = 0.9
"""Of the divergence that error compensation leaves, on text that training did not see."""


@pytest.fixture(params=["llama", "llama-tied", "gpt2", "gemma2"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """Of families with and without a table that is the head, with transposed weights, and with bounded logits."""
    random_model(request.param).save_pretrained(tmp_path / "model")
    return open_source(tmp_path / "model")


def subnet_of(source: Source) -> Subnet:
    fmt = LayerFormat(Format.parse("uint3:group32"), None)
    return Subnet({path: fmt for tied in tied_sets(source.skeleton()) for path in tied})


def compensated(source: Source) -> PackedModel:
    return quantize(source, subnet_of(source), method="gptq", ids=IDS)


def weights_of(packed: PackedModel) -> dict[str, PackedTensor]:
    return {path: layer.weight for path, layer in packed.layers.items()}


def divergence(source: Source, packed: PackedModel) -> float:
    def distribution(model: object) -> Tensor:
        with torch.inference_mode():
            return model(input_ids=UNSEEN, use_cache=False).logits.log_softmax(-1)  # type: ignore[operator,no-any-return]

    exact, found = distribution(source.load()), distribution(packed)
    return float((exact.exp() * (exact - found)).sum(-1).mean())


def test_training_gains_on_error_compensation(source: Source) -> None:
    packed = compensated(source)
    stages: list[tuple[str, int, int]] = []
    trained = SHORT.train(source, weights_of(packed), IDS, lambda *told: stages.append(told))
    assert [done for _, done, _ in stages] == list(range(SHORT.steps + 1))
    assert list(trained) == list(packed.layers)
    for path, weight in trained.items():
        assert weight.format == packed.layers[path].weight_format
        assert weight is trained[source.first_of(path)]
    assert divergence(source, assembled(source, trained)) < GAIN * divergence(source, packed)


def test_training_that_gains_nothing_leaves_the_codes(source: Source) -> None:
    weights = weights_of(compensated(source))
    wild = replace(SHORT, steps=2, rates=Rates(scales=1.0, places=10.0))
    stages: list[str] = []
    assert wild.train(source, weights, IDS, lambda stage, done, total: stages.append(stage)) == weights
    assert stages[-1] == NOTHING_GAINED


def test_the_method_is_this_training_on_codes_of_error_compensation(source: Source) -> None:
    """Twice, so that the same seed gives the same codes."""
    short = replace(SHORT, steps=8)
    expected = short.train(source, weights_of(compensated(source)), IDS)
    found = weights_of(quantize(source, subnet_of(source), method="qat", ids=IDS, training=short))
    assert all(torch.equal(weight.codes, expected[path].codes) for path, weight in found.items())
    assert all(torch.equal(weight.scale, expected[path].scale) for path, weight in found.items())
