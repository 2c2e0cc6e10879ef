"""CQAP and its additive part: they learn what can be known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from eqnet.search.noise import Noise
from eqnet.search.predictor import CQAP, AdditiveModel, Agreement, LinearBaseline, gather, one_hot
from eqnet.search.sampling import sample_genes
from eqnet.space import ElasticSpace, Layer
from tests.search.small import space

LAYERS = [Layer(f"layer{i}", "Linear", 8, 8, 64, 8) for i in range(6)]
SPACE = space("w=2-8:tensor,channel:sym,asym a=2-8:asym edge=none", *LAYERS)


def noise(of: ElasticSpace) -> Noise:
    """Four times less with every bit, as rounding has it; less per channel and asymmetric."""

    def weight(choice: int) -> float:
        fmt = of.sets[0].choices[choice].weight
        return 4.0**-fmt.bits * (0.5 if fmt.granularity.value == "channel" else 1.0) * (1.0 if fmt.symmetric else 0.8)

    activation = np.array([4.0**-c.activation.bits for c in of.sets[0].choices if c.activation is not None])
    return Noise(
        tuple(np.array([weight(i) for i in range(size)]) for size in of.sizes), tuple(activation for _ in of.sizes)
    )


NOISE = noise(SPACE)
SENSITIVITY = np.array([9.0, 0.5, 2.0, 0.1, 4.0, 1.0])


def additive(genes: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.full(len(genes), 1e-4)
    for i, factor in enumerate(SENSITIVITY):
        total += factor * NOISE.weight[i][genes[:, i]] + 0.5 * factor * NOISE.activation[i][genes[:, i]]
    return total


def interacting(genes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Errors of one layer grow through the next: what no additive model can follow."""
    x = additive(genes)
    for i in range(5):
        x *= 1 + 8 * np.sqrt(NOISE.weight[i][genes[:, i]] * NOISE.activation[i + 1][genes[:, i + 1]])
    return x / (1 + x)


@pytest.fixture(scope="module")
def genes() -> NDArray[np.int64]:
    return sample_genes(SPACE, 300, np.random.default_rng(0))


def test_the_additive_model_recovers_an_additive_truth(genes: NDArray[np.int64]) -> None:
    model = AdditiveModel.fit(NOISE, genes[:200], additive(genes[:200]))
    assert np.allclose(model.predict(genes), additive(genes), rtol=1e-6)
    for i, factor in enumerate(SENSITIVITY):
        assert np.allclose(model.weight_tables[i], factor * NOISE.weight[i], rtol=1e-4)
    assert model.constant == pytest.approx(1e-4, rel=1e-3)


def test_it_never_blames_a_layer_for_less_than_nothing() -> None:
    rng = np.random.default_rng(1)
    genes = sample_genes(SPACE, 50, rng)
    model = AdditiveModel.fit(NOISE, genes, rng.exponential(size=50))
    assert all((table >= 0).all() for table in model.tables)
    assert (model.predict(genes) > 0).all()


def test_cqap_follows_held_out_networks_better_than_both_baselines(genes: NDArray[np.int64]) -> None:
    measured = interacting(genes) * np.exp(0.02 * np.random.default_rng(2).normal(size=len(genes)))
    train, test = slice(200), slice(200, 300)
    truth = np.log(measured[test])
    cqap = CQAP(SPACE, NOISE).fit(genes[train], measured[train], 0)
    linear = LinearBaseline.fit(SPACE, genes[train], measured[train])
    assert cqap.additive is not None
    error = {
        "cqap": Agreement.between(cqap.predict(genes[test]), truth).rmse,
        "additive": Agreement.between(np.log(cqap.additive.predict(genes[test])), truth).rmse,
        "linear": Agreement.between(linear.predict(genes[test]), truth).rmse,
    }
    assert error["cqap"] < min(error["additive"], error["linear"])
    assert Agreement.between(cqap.predict(genes[test]), truth).kendall_tau > 0.9


def test_the_linear_baseline_is_ridge_regression(genes: NDArray[np.int64]) -> None:
    from sklearn.linear_model import Ridge

    measured = interacting(genes)
    x = gather(one_hot(SPACE), genes)
    expected = Ridge(1.0, solver="cholesky").fit(x[:200], np.log(measured[:200])).predict(x[200:])
    found = LinearBaseline.fit(SPACE, genes[:200], measured[:200]).predict(genes[200:])
    assert np.allclose(found, expected, atol=1e-6)


def test_one_hot_features_name_each_width_and_condition_once() -> None:
    tables = one_hot(SPACE)
    # 7 weight widths, 2 granularities, 2 symmetries, 7 activation widths, and one each of the activation's conditions
    assert [table.shape for table in tables] == [(28 * 7, 7 + 2 + 2 + 7 + 1 + 1)] * 6
    assert (tables[0].sum(1) == 6).all()
    assert len(np.unique(tables[0], axis=0)) == 28 * 7


def test_same_seed_same_predictions_and_global_generators_stay(genes: NDArray[np.int64]) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr,index]
    first, second, other = (
        CQAP(SPACE, NOISE).fit(genes, interacting(genes), seed).predict(genes) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]


def test_a_prediction_does_not_depend_on_its_company(genes: NDArray[np.int64]) -> None:
    cqap = CQAP(SPACE, NOISE).fit(genes, interacting(genes), 0)
    together = cqap.predict(genes[:20])
    assert np.allclose(together, [cqap.predict(row[None])[0] for row in genes[:20]], rtol=1e-12)


def test_agreement_is_scipys() -> None:
    rng = np.random.default_rng(3)
    measured = rng.normal(size=40)
    predicted = measured + 0.5 * rng.normal(size=40)
    found = Agreement.between(predicted, measured)
    assert found.kendall_tau == pytest.approx(stats.kendalltau(predicted, measured).statistic)
    assert found.pearson == pytest.approx(np.corrcoef(predicted, measured)[0, 1])
    assert found.rmse == pytest.approx(np.sqrt(np.mean((predicted - measured) ** 2)))
    assert found.held_out == 40
    constant = Agreement.between(np.ones(5), np.arange(5.0))
    assert (constant.kendall_tau, constant.pearson) == (0.0, 0.0)
