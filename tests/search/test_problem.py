"""What may be proposed: targets, budgets, and choices that can never be best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eqnet import BudgetError, Format, Granularity, InputError, LayerFormat
from eqnet.export.targets import load_target
from eqnet.search.budget import Budget
from eqnet.search.noise import Noise
from eqnet.search.predictor import AdditiveModel
from eqnet.search.problem import Problem
from eqnet.space import Layer
from tests.search.small import every_gene, space

LAYERS = [Layer("a", "Linear", 8, 16, 128, 16), Layer("b", "Linear", 4, 8, 32, 8), Layer("c", "Linear", 6, 4, 24, 4)]
SPACE = space("w=2-5:channel:sym,asym a=4,8:asym edge=none", *LAYERS)


def noise(seed: int = 0) -> Noise:
    rng = np.random.default_rng(seed)

    def of(bits: int) -> float:
        return float(4.0**-bits * rng.uniform(0.8, 1.2))

    return Noise(
        tuple(np.array([of(c.weight.bits) for c in tied.choices]) for tied in SPACE.sets),
        tuple(np.array([4.0**-c.activation.bits for c in tied.choices if c.activation]) for tied in SPACE.sets),
    )


class Additive:
    """A predictor that is nothing but its additive part."""

    def __init__(self, model: AdditiveModel | None = None) -> None:
        found = noise()
        factors = (3.0, 1.0, 0.2)
        self.additive = model or AdditiveModel(
            1e-3,
            tuple(f * table for f, table in zip(factors, found.weight)),
            tuple(f * table for f, table in zip(factors, found.activation)),
        )

    def predict(self, genes: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.log(self.additive.predict(genes))


def problem(*budgets: str, target: str | None = None) -> Problem:
    return Problem.of(SPACE, [Budget.parse(b) for b in budgets], load_target(target) if target else None)


@pytest.mark.parametrize("budgets", [["3bit"], ["3.4bit", "a5bit"], ["150B"], ["6bpw", "3.2kBOPs"]], ids=str)
def test_pruning_never_loses_the_best_network(budgets: list[str]) -> None:
    """Whatever the sensitivities, the best of all networks is the best of those that are left."""
    whole = problem(*budgets)
    genes = every_gene(SPACE)
    met = np.array([whole.meets(row) for row in genes])
    losses = Additive().predict(genes[met])
    pruned = whole.pruned(noise())
    assert pruned.space.sizes.sum() < SPACE.sizes.sum()
    best = pruned.to_space(pruned.exact(Additive()))
    assert Additive().predict(best[None])[0] == pytest.approx(losses.min(), rel=1e-9)
    found = pruned.search(Additive(), np.random.default_rng(0), [], 4)
    assert found.value == pytest.approx(losses.min(), rel=1e-9)
    assert all(whole.meets(row) for row in pruned.to_space(found.top))


def test_only_what_the_target_runs_is_left() -> None:
    restricted = problem("4bit", target="onnxruntime")
    for tied in restricted.space.sets:
        assert {c.weight.bits for c in tied.choices} == {2, 4}
        assert {c.activation.bits for c in tied.choices if c.activation} == {4, 8}
    genes = every_gene(restricted.space)
    assert all(restricted.meets(restricted.to_space(row)) for row in genes)
    assert np.array_equal(restricted.from_space(restricted.to_space(genes[3])), genes[3])  # type: ignore[arg-type]
    threes = SPACE.genes(SPACE.nearest(LayerFormat(Format(3, True, Granularity.CHANNEL), Format(8, False))))
    assert restricted.from_space(threes) is None, "three-bit weights, which it does not run"


def test_a_target_is_asked_for_what_is_stored(tmp_path: Path) -> None:
    """A batch norm gives each channel a scale of its own, whatever was asked for."""
    table = '[weight]\nbits = [8]\ngranularity = ["{}"]\n[activation]\nbits = [8]'
    folded = space("w=8:tensor:sym a=8:asym edge=none", LAYERS[0], replace(LAYERS[1], folded=True))

    def left(granularity: str) -> Problem:
        path = tmp_path / f"per-{granularity}.toml"
        path.write_text(f'title = "A chip"\n{table.format(granularity)}')
        return Problem.of(folded, [], load_target(str(path)))

    with pytest.raises(InputError, match=r"layer 'b': none of its 1 formats.*stored as int8:channel.*among tensor"):
        left("tensor")
    with pytest.raises(InputError, match=r"layer 'a': none of its 1 formats.*'tensor' is not among channel\)"):
        left("channel")


def test_a_target_that_runs_nothing_of_the_space_says_why() -> None:
    with pytest.raises(
        InputError, match=r"layer 'a': none of its 16 formats is allowed .*5 bits are not among 2, 4, 8\); widen"
    ):
        problem("4bit", target="onnxruntime-weight-only")


def test_a_budget_counts_what_the_target_leaves() -> None:
    problem("2.5bit")
    fewer = space("w=4-5:channel:sym a=8:asym edge=none", *LAYERS)
    with pytest.raises(BudgetError, match="ask for at least 4bit"):
        Problem.of(fewer, [Budget.parse("3bit")])


def test_networks_use_up_a_budget_from_99_percent_on() -> None:
    bounded = problem("4bit")
    genes = every_gene(SPACE)
    bits = np.array([bounded.costs.cost(row).code_bits for row in genes])
    assert [bounded.meets(row) for row in genes] == (bits <= 4).tolist()
    assert [bounded.fills(row) for row in genes] == (bits >= 3.96).tolist()


def test_the_front_runs_past_the_budget_of_its_metric_and_keeps_to_the_others() -> None:
    front = problem("3bit", "a6bit").pruned(noise()).front(Additive(), np.random.default_rng(0))
    costs = [problem("3bit").costs.cost(problem("3bit", "a6bit").pruned(noise()).to_space(g)) for g, _, _ in front]
    assert max(cost.code_bits for cost in costs) > 3
    assert all(cost.activation_bits is not None and cost.activation_bits <= 6 for cost in costs)


NEAR = 0.1
"""Of the logarithm of the divergence, by which a point of a front may lie above the best network of its size; a front
that begins at random lies 0.3 to 0.9 above."""


def test_the_front_of_many_layers_is_near_the_best_network_of_each_size() -> None:
    layers = [Layer(f"layer{i}", "Linear", 8 + i % 5, 16, 128 + 16 * (i % 5), 16) for i in range(60)]
    many = space("w=2-8:channel:sym a=float edge=none", *layers)
    rng = np.random.default_rng(0)
    nats = [np.array([4.0**-c.weight.bits for c in tied.choices]) * rng.lognormal(0, 2) for tied in many.sets]
    predictor = Additive(AdditiveModel(1e-9, tuple(nats), tuple(np.zeros(1) for _ in nats)))
    whole = Problem.of(many, [Budget.parse("4bit")])
    front = whole.front(predictor, rng)
    assert len(front) > 50
    for genes, loss, _ in front[:: len(front) // 10]:
        bits = whole.costs.cost(genes).code_bits
        of_its_size = Problem.of(many, [Budget.parse(f"{min(bits + 1e-9, 8):.9f}bit")])
        assert loss <= predictor.predict(of_its_size.exact(predictor)[None])[0] + NEAR
