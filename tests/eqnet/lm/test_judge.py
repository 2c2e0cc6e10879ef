"""What subnets are measured to be worth, in parts and at once, with and without the model in floating point."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eqnet.formats import Format, LayerFormat
from eqnet.lm.bank import Bank
from eqnet.lm.judge import LanguageJudge, Workbench
from eqnet.lm.kept import KeptTensors
from eqnet.lm.methods import METHODS
from eqnet.lm.search import shared_weights
from eqnet.lm.sensitivity import Sensitivity
from eqnet.lm.space import choices_of, space_of
from tests.eqnet.lm.models import VOCABULARY, random_model

pytest.importorskip("transformers")

SAME = 1e-12
"""Relative; the same sums of float64 in another order."""

WINDOWS = torch.randint(VOCABULARY, (5, 12), generator=torch.Generator().manual_seed(0))


def bench_of(model: Any) -> Workbench:
    space = space_of(model, choices_of("w=3-4:group32:asym"))
    weights = [layers for shared in shared_weights(model, space).values() for layers in shared]
    exact = {layers.name: model.get_submodule(layers.name).weight.detach().clone() for layers in weights}
    inputs: dict[str, Tensor] = {}
    for layers in weights:
        inputs[layers.hessian] = torch.eye(exact[layers.name].shape[1])
    ones = {path: torch.ones(len(exact[layers.name])) for layers in weights for path in layers.paths}
    every = {path: torch.eye(exact[layers.name].shape[1]) for layers in weights for path in layers.paths}
    bank = Bank(METHODS["rtn"], torch.float16, exact.__getitem__, lambda: Sensitivity({**every, **inputs}, ones))
    return Workbench(lambda: model, weights, bank, exact.__getitem__)


@pytest.fixture
def bench() -> Workbench:
    return bench_of(random_model("llama-tied"))


@pytest.fixture
def subnet(bench: Workbench) -> dict[str, LayerFormat]:
    space = space_of(random_model("llama-tied"), choices_of("w=3-4:group32:asym"))
    return dict(space.nearest(LayerFormat(Format.parse("uint3:group32"), None)))


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_parts_together_are_the_whole(bench: Workbench, subnet: dict[str, LayerFormat]) -> None:
    whole = LanguageJudge(bench, WINDOWS).measure(subnet)
    first, rest = (LanguageJudge(bench, part).measure(subnet) for part in (WINDOWS[:2], WINDOWS[2:]))
    assert whole.divergence > 0
    assert first != rest
    weighed = [2 / 5 * a + 3 / 5 * b for a, b in zip(*map(dataclasses.astuple, (first, rest)), strict=True)]
    assert weighed == pytest.approx(dataclasses.astuple(whole), rel=SAME)


def test_what_is_not_compared_has_the_same_loss_and_an_infinite_divergence(
    bench: Workbench, subnet: dict[str, LayerFormat]
) -> None:
    expected = LanguageJudge(bench, WINDOWS).measure(subnet)
    found = LanguageJudge(bench, WINDOWS, compared=False).measure(subnet)
    assert found == dataclasses.replace(expected, divergence=math.inf)


def test_the_reference_that_is_made_ahead_is_the_one_made_when_it_is_asked_for(
    bench: Workbench, subnet: dict[str, LayerFormat], threads: int
) -> None:
    expected = LanguageJudge(bench, WINDOWS).measure(subnet)
    judge = LanguageJudge(bench, WINDOWS)
    judge.begin()
    assert torch.get_num_threads() == threads - 1
    assert judge.measure(subnet) == expected
    assert torch.get_num_threads() == threads
    judge.stop()
    assert judge.measure(None).divergence == pytest.approx(0, abs=SAME)


def test_a_reference_that_nobody_asks_for_is_given_up(bench: Workbench, threads: int) -> None:
    judge = LanguageJudge(bench, WINDOWS)
    judge.begin()
    judge.stop()
    assert torch.get_num_threads() == threads


def test_kept_hidden_states_give_the_same_reference(
    bench: Workbench, subnet: dict[str, LayerFormat], tmp_path: Path
) -> None:
    kept = KeptTensors(tmp_path / "hidden.safetensors", "mine")
    expected = LanguageJudge(bench, WINDOWS, kept=kept).measure(subnet)
    assert kept.path.exists()
    passes: list[Tensor] = []
    logits = bench.logits
    bench.logits = lambda ids: passes.append(ids) or logits(ids)  # type: ignore[method-assign, func-returns-value]
    assert LanguageJudge(bench, WINDOWS, kept=kept).measure(subnet) == expected
    assert len(passes) == len(WINDOWS)  # of the subnet alone


def test_where_logits_are_scaled_behind_the_head_nothing_is_kept(
    subnet: dict[str, LayerFormat], tmp_path: Path
) -> None:
    model = random_model("llama-tied")
    forward = model.forward

    def scaled(**given: Any) -> Any:
        found = forward(**given)
        found.logits = found.logits / 2
        return found

    model.forward = scaled
    bench, kept = bench_of(model), KeptTensors(tmp_path / "hidden.safetensors", "mine")
    assert LanguageJudge(bench, WINDOWS, kept=kept).measure(subnet) == LanguageJudge(bench, WINDOWS).measure(subnet)
    assert not kept.path.exists()
