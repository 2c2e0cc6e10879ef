"""Costs against counts by hand, and refusals of what cannot be met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import eqnet
from eqnet import BudgetError, Choices, Format, Granularity, InputError, LayerFormat
from eqnet.packed.planes import plane_bytes
from eqnet.search.budget import Budget
from eqnet.search.cost import CostModel
from eqnet.space import ElasticSpace, Layer, TiedSet
from tests.search.small import every_gene, space

CONV = Layer("conv", "Conv2d", rows=4, cols=27, macs=4 * 27 * 36, inputs=108, has_bias=True)
LINEAR = Layer("linear", "Linear", rows=3, cols=10, macs=30, inputs=10, has_bias=False)


def layer_format(weight: Format, activation: int | None) -> LayerFormat:
    return LayerFormat(weight, Format(activation, False) if activation else None)


def two_layers(text: str = "w=2-8:tensor,channel,group16:sym,asym a=2-8:asym", **options: int) -> ElasticSpace:
    return space(text, CONV, LINEAR, **options)


@pytest.mark.parametrize(
    ("count", "bits", "expected"),
    [
        (0, 4, 0),
        (1, 2, 1),
        (8, 3, 2 + 1),
        (9, 3, 3 + 2),
        (5, 8, 5),
        (5, 7, 3 + 2 + 1),
        (3, 6, 2 + 1),
        (100, 5, 50 + 13),
    ],
)
def test_codes_fill_whole_bytes_plane_by_plane(count: int, bits: int, expected: int) -> None:
    assert plane_bytes(count, bits) == expected


def test_every_metric_is_the_count_by_hand() -> None:
    subnet = {
        "conv": layer_format(Format(3, False, Granularity.CHANNEL), 6),
        "linear": layer_format(Format(4, True, Granularity.GROUP, 4), 8),
    }
    cost = CostModel(two_layers(float_bytes=100)).cost(subnet)
    conv_codes = (108 * 2 // 8) + -(-108 // 8)  # planes of 2 bits and of 1 bit
    conv_zero_points = 1 + 1  # four of 3 bits: 8 bits and 4 bits
    conv_weight = conv_codes + 4 * 4 + conv_zero_points
    linear_weight = 30 // 2 + 3 * 3 * 4  # three groups a row, the last of two columns
    assert cost.bytes == 100 + conv_weight + 4 * 4 + 5 + linear_weight + 5
    assert cost.code_bits == (3 * 108 + 4 * 30) / 138
    assert cost.bpw == 8 * (conv_weight + linear_weight) / 138
    assert cost.bops == 4 * 27 * 36 * 3 * 6 + 30 * 4 * 8
    assert cost.activation_bits == (6 * 108 + 8 * 10) / 118


def test_half_precision_scales_are_counted_as_stored() -> None:
    subnet = {name: layer_format(Format(4, True, Granularity.CHANNEL), None) for name in ("conv", "linear")}
    single, half = (
        CostModel(two_layers(f"w=4:channel:sym a=float edge=none scale=fp{bits}")).cost(subnet) for bits in (32, 16)
    )
    assert single.bytes - half.bytes == 2 * 7
    assert single.activation_bits is None
    assert single.bops == 4 * 27 * 36 * 4 * 32 + 30 * 4 * 32


@pytest.mark.parametrize(("symmetric", "zero_points"), [(True, 0), (False, 1 + 1)])
def test_one_scale_becomes_one_a_channel_where_a_batch_norm_folds(symmetric: bool, zero_points: int) -> None:
    subnet = {"conv": layer_format(Format(3, symmetric), None)}
    alone, folded = (space("w=3:tensor a=float", replace(CONV, folded=folded)) for folded in (False, True))
    least = 4 + (0 if symmetric else 1 + 1)  # one scale; one zero point in two planes
    assert CostModel(folded).cost(subnet).bytes - CostModel(alone).cost(subnet).bytes == 4 * 4 + zero_points - least
    grouped = {"conv": layer_format(Format(3, symmetric, Granularity.GROUP, 16), None)}
    assert CostModel(folded).cost(grouped).bytes == CostModel(alone).cost(grouped).bytes


def test_a_weight_that_another_layer_stores_costs_once() -> None:
    shared = nn.Linear(4, 4, bias=False)
    model = nn.Sequential(shared, nn.Linear(4, 4, bias=False))
    model[1].weight = shared.weight
    made = eqnet.elasticize(model, Choices.parse("w=2-8:tensor:sym a=float edge=none"), torch.zeros(1, 4)).space
    assert CostModel(made).cost([0]).bytes == 16 * 2 // 8 + 4
    assert CostModel(made).cost([0]).code_bits == 2


def test_tables_add_up_to_the_cost_of_every_subnet() -> None:
    of = space("w=2,5:channel:sym,asym a=3,8:asym edge=none", CONV, LINEAR, float_bytes=7)
    model = CostModel(of)
    genes = every_gene(of)
    for metric, denominator in model.denominators.items():
        totals = model.total(metric, genes) / denominator
        assert totals.tolist() == [getattr(model.cost(row), metric) for row in genes]
        assert (model.minimum(metric), model.maximum(metric)) == (totals.min(), totals.max())


def test_the_bytes_of_all_layers_and_floats_are_the_whole() -> None:
    model = CostModel(two_layers(float_bytes=11))
    subnet = model._space.nearest(layer_format(Format(5, False, Granularity.CHANNEL), 5))
    assert sum(model.layer_bytes(subnet).values()) + 11 == model.cost(subnet).bytes


@pytest.mark.parametrize("text", ["4.1bit", "5.05bpw", "120B", "0.05MBOPs", "a5.5bit"])
def test_a_limit_is_the_last_sum_that_meets_the_budget(text: str) -> None:
    model, budget = CostModel(two_layers()), Budget.parse(text)
    denominator = model.denominators[budget.metric]
    limit = model.limit(budget)
    assert limit <= budget.limit * denominator < limit + 1


@pytest.mark.parametrize("text", ["2.1bit", "3bpw", "90B", "0.01MBOPs", "a2.2bit"])
def test_a_budget_below_the_smallest_network_names_one_that_can_be_met(text: str) -> None:
    model = CostModel(space("w=3-8:channel:sym a=3-8:asym edge=none", CONV, LINEAR))
    with pytest.raises(BudgetError, match="ask for at least") as raised:
        model.check_feasible([Budget.parse(text)])
    nearest = Budget.parse(str(raised.value).rpartition("ask for at least ")[2])
    model.check_feasible([nearest])
    least = model.minimum(nearest.metric)
    assert least <= float(nearest.limit) <= least * 1.001 + 0.01


def seesaw() -> ElasticSpace:
    """Either narrow weights or narrow inputs, so that budgets can exclude each other."""
    channel = [Format(bits, True, Granularity.CHANNEL) for bits in (2, 8)]
    choices = (layer_format(channel[0], 8), layer_format(channel[1], 2))
    return ElasticSpace(tuple(TiedSet((layer,), choices) for layer in (CONV, LINEAR)))


@pytest.mark.parametrize(
    ("given", "last"),
    [(["3bit"], "a3bit"), (["a3bit"], "3bit"), (["a3bit"], "100B"), (["8bpw", "3.5bit"], "a2bit")],
    ids=str,
)
def test_budgets_that_exclude_each_other_name_the_nearest_that_can_be_met(given: list[str], last: str) -> None:
    model, before = CostModel(seesaw()), [Budget.parse(text) for text in given]
    model.check_feasible(before)
    model.check_feasible([Budget.parse(last)])
    with pytest.raises(BudgetError, match=f"'{last}' cannot be met together with '{given[0]}'") as raised:
        model.check_feasible([*before, Budget.parse(last)])
    nearest = Budget.parse(str(raised.value).rpartition("ask for at least ")[2])
    model.check_feasible([*before, nearest])
    costs = [model.cost(row) for row in every_gene(seesaw())]
    meeting = [c for c in costs if all(getattr(c, b.metric) <= float(b.limit) for b in before)]
    least = min(getattr(cost, nearest.metric) for cost in meeting)
    assert least <= float(nearest.limit) <= least * 1.001 + 0.01


def test_a_budget_on_inputs_that_stay_in_float_is_refused() -> None:
    model = CostModel(space("w=2-8:channel:sym a=float", CONV, LINEAR))
    with pytest.raises(BudgetError, match="no layer of this space has a quantized input"):
        model.limit(Budget.parse("a4bit"))


def test_subnets_of_other_layers_are_refused() -> None:
    model = CostModel(two_layers())
    with pytest.raises(InputError, match="disagree on these layers: linear"):
        model.cost({"conv": layer_format(Format(4, True), 8)})


def test_counts_stay_exact_past_32_bits() -> None:
    huge = Layer("huge", "Linear", rows=2**20, cols=2**16, macs=2**46, inputs=2**26)
    model = CostModel(space("w=4:tensor:sym a=8:asym edge=none", huge))
    cost = model.cost([0])
    assert cost.bytes == 2**35 + 4 + 5
    assert cost.bops == 2**51
    assert np.array_equal(model.total("bops", np.zeros((3, 1), np.int64)), [2**51] * 3)
