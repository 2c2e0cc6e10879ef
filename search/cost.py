"""What a subnet costs: exact integer tables for each metric, to be summed over the tied sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from eqnet.errors import BudgetError, InputError
from eqnet.formats import LayerFormat
from eqnet.packed.planes import plane_bytes
from eqnet.search.budget import METRICS, Budget
from eqnet.search.exact import minimize
from eqnet.search.latency.table import LatencyTable
from eqnet.search.result import Cost
from eqnet.space import ElasticSpace, Layer

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

FLOAT_BITS = 32
"""Width that a tensor in floating point counts."""
BIAS_BYTES = 4
"""Of one element of a bias."""
ACTIVATION_BYTES = 4 + 1
"""Scale and zero point of one quantized activation, which has one of each for the whole tensor."""
NANOSECONDS = 10**9
"""In a second."""


def weight_bytes(layer: Layer, fmt: LayerFormat, scale_bits: int) -> int:
    """Bytes of a layer's codes, scales and zero points; 0 if another layer stores its weight."""
    if not layer.stored:
        return 0
    weight = layer.stored_format(fmt.weight)
    rows, cols = weight.scale_shape(layer.rows, layer.cols)
    zero_points = 0 if weight.symmetric else plane_bytes(rows * cols, weight.bits)
    return plane_bytes(layer.weights, weight.bits) + rows * cols * scale_bits // 8 + zero_points


def layer_bytes(layer: Layer, fmt: LayerFormat, scale_bits: int) -> int:
    """Bytes of everything that a layer stores in format ``fmt``: weight, bias, and its input's scale and zero point."""
    bias = BIAS_BYTES * layer.rows if layer.has_bias else 0
    return weight_bytes(layer, fmt, scale_bits) + bias + (ACTIVATION_BYTES if fmt.activation is not None else 0)


def _activation_bits(fmt: LayerFormat) -> int:
    return fmt.activation.bits if fmt.activation is not None else FLOAT_BITS


@dataclass(frozen=True)
class _Rule:
    """How a metric adds up: ``(constant + sum of price over the layers) / (parts * sum of per over the layers)``.

    Attributes:
        price: what a layer adds in a format of its own.
        per: what a layer adds to the denominator, or None if the metric is a plain sum.
        inputs_only: whether only the layers count whose input can be quantized.
        constant: what every subnet of the space pays.
        parts: that one unit of the metric has; prices are counted in them.
    """

    price: Callable[[Layer, LayerFormat, ElasticSpace], int]
    per: Callable[[Layer], int] | None = None
    inputs_only: bool = False
    constant: Callable[[ElasticSpace], int] = lambda _: 0
    parts: int = 1


def _stored_weights(layer: Layer) -> int:
    return layer.weights if layer.stored else 0


_RULES: Mapping[str, _Rule] = {
    "code_bits": _Rule(lambda layer, fmt, _: fmt.weight.bits * _stored_weights(layer), per=_stored_weights),
    "bpw": _Rule(lambda layer, fmt, space: 8 * weight_bytes(layer, fmt, space.scale_bits), per=_stored_weights),
    "bytes": _Rule(
        lambda layer, fmt, space: layer_bytes(layer, fmt, space.scale_bits), constant=lambda space: space.float_bytes
    ),
    "bops": _Rule(lambda layer, fmt, _: layer.macs * fmt.weight.bits * _activation_bits(fmt)),
    "activation_bits": _Rule(
        lambda layer, fmt, _: layer.inputs * _activation_bits(fmt), per=lambda layer: layer.inputs, inputs_only=True
    ),
}
"""Every metric that can be counted, by its name in ``Cost``; to add one is to add a row."""


def _latency(table: LatencyTable) -> _Rule:
    return _Rule(
        lambda layer, fmt, _: table.nanoseconds(layer, fmt), constant=lambda _: table.fastest, parts=NANOSECONDS
    )


class CostModel:
    """Prices every subnet of a space in exact integers: ``metric = sum of tables[set][gene] / denominator``.

    Args:
        space: what is priced; every layer counts, the first and the last too.
        latency: what was measured of it; without, there is no metric of this name.

    Raises:
        InputError: the space has no weights.

    Attributes:
        latency: as given.
        tables: for each metric, by its name in ``Cost``, and each tied set, what its choices add, int64 [choices].
            What every subnet pays alike is in the table of the first set.
        denominators: for each metric, what its sum is divided by; 0 if it covers no layer of the space.
    """

    def __init__(self, space: ElasticSpace, latency: LatencyTable | None = None) -> None:
        if not any(_stored_weights(layer) for layer in space.layers):
            raise InputError("the elastic space has no weights, so there is nothing to price; give a model with layers")
        self._space, self.latency = space, latency
        self._rules = {**_RULES, **({"latency": _latency(latency)} if latency is not None else {})}
        quantizable = {
            layer.name
            for tied in space.sets
            if any(choice.activation is not None for choice in tied.choices)
            for layer in tied.layers
            if layer.name not in space.weight_only
        }
        self._covered = {
            name: [layer for layer in space.layers if not rule.inputs_only or layer.name in quantizable]
            for name, rule in self._rules.items()
        }
        self.denominators: Mapping[str, int] = {
            name: rule.parts * (sum(map(rule.per, self._covered[name])) if rule.per is not None else 1)
            for name, rule in self._rules.items()
        }
        self.tables: Mapping[str, tuple[Ints, ...]] = {name: self._priced(name) for name in self._rules}
        self._joined = {name: np.concatenate(tables) for name, tables in self.tables.items()}
        self._starts = np.cumsum([0, *space.sizes[:-1]])

    def _priced(self, metric: str) -> tuple[Ints, ...]:
        """Adds up the metric for every choice of every tied set."""
        rule, space = self._rules[metric], self._space
        covered = {layer.name for layer in self._covered[metric]}
        tables = tuple(
            np.array(
                [
                    sum(
                        rule.price(layer, space.member_format(layer, choice), space)
                        for layer in tied.layers
                        if layer.name in covered
                    )
                    for choice in tied.choices
                ],
                dtype=np.int64,
            )
            for tied in space.sets
        )
        tables[0][:] += rule.constant(space)
        return tables

    def total(self, metric: str, genes: Ints) -> Ints:
        """The metric's integer sum for each row of genes, int64 [P, sets] to int64 [P]."""
        total: Ints = self._joined[metric][self._starts + genes].sum(axis=1)
        return total

    def cost(self, network: Mapping[str, LayerFormat] | Sequence[int] | Ints) -> Cost:
        """The cost of a subnet, or of genes (int [sets]).

        A subnet may have formats that the space lacks.

        Raises:
            InputError: the subnet's layers are not those of the space.
        """
        if isinstance(network, Mapping):
            subnet = self._checked(network)
            sums = {
                name: rule.constant(self._space)
                + sum(rule.price(layer, subnet[layer.name], self._space) for layer in self._covered[name])
                for name, rule in self._rules.items()
            }
        else:
            genes = np.asarray(network, dtype=np.int64)[None]
            sums = {name: int(self.total(name, genes)[0]) for name in self._rules}
        inputs = self.denominators["activation_bits"]
        quantized = sums["activation_bits"] != FLOAT_BITS * inputs
        return Cost(
            code_bits=sums["code_bits"] / self.denominators["code_bits"],
            bpw=sums["bpw"] / self.denominators["bpw"],
            bytes=sums["bytes"],
            bops=sums["bops"],
            activation_bits=sums["activation_bits"] / inputs if quantized else None,
            latency=sums["latency"] / self.denominators["latency"] if "latency" in sums else None,
        )

    def layer_bytes(self, subnet: Mapping[str, LayerFormat]) -> dict[str, int]:
        """By layer, the bytes of its weight, its bias and its input's scale and zero point.

        Raises:
            InputError: the subnet's layers are not those of the space.
        """
        checked = self._checked(subnet)
        return {
            layer.name: layer_bytes(layer, checked[layer.name], self._space.scale_bits) for layer in self._space.layers
        }

    def limit(self, budget: Budget) -> int:
        """The largest integer sum of the budget's metric that meets it.

        Raises:
            BudgetError: the budget bounds nothing that adds up: accuracy, activations that all stay in float, or a
                latency that was not measured.
        """
        if budget.is_floor:
            raise BudgetError(f"budget '{budget}': {budget.metric} has to be measured; no sum of costs tells it")
        denominator = self.denominators.get(budget.metric)
        if denominator is None:
            raise BudgetError(f"budget '{budget}': no {METRICS[budget.metric]} was measured; use a LatencyMeter")
        if not denominator:
            raise BudgetError(
                f"budget '{budget}': no layer of this space has a quantized input; leave it out, or widen the space "
                "with activation widths such as a=2-8"
            )
        return int(budget.limit * denominator // 1)

    def minimum(self, metric: str) -> float:
        """The least value that a subnet of the space has; 0 where the metric covers no layer."""
        return self._extreme(metric, np.min)

    def maximum(self, metric: str) -> float:
        """The largest value that a subnet of the space has; 0 where the metric covers no layer."""
        return self._extreme(metric, np.max)

    def constraints(self, budgets: Sequence[Budget]) -> tuple[list[tuple[Ints, ...]], list[int]]:
        """What a search has to keep to: ``sum of costs[m][set][gene] <= limits[m]``; floors are left out.

        Raises:
            BudgetError: see ``limit``.
        """
        bounds = [budget for budget in budgets if not budget.is_floor]
        return [self.tables[budget.metric] for budget in bounds], [self.limit(budget) for budget in bounds]

    def check_feasible(self, budgets: Sequence[Budget]) -> None:
        """Makes sure that some subnet meets all budgets; floors on accuracy are left to the measurements.

        Raises:
            BudgetError: none does; the message has the nearest budget that one meets.
        """
        bounds = [budget for budget in budgets if not budget.is_floor]
        for budget in bounds:
            limit = self.limit(budget)
            least = sum(int(table.min()) for table in self.tables[budget.metric])
            if least > limit:
                raise self._refusal(budget, least, f": the {_least(budget)} of this space has")
        for i in range(1, len(bounds)):
            self._check_together(bounds[:i], bounds[i])

    def _check_together(self, before: Sequence[Budget], last: Budget) -> None:
        """Raises BudgetError if ``last`` cannot be met on top of those ``before``, which can be met together."""
        costs, limits = self.constraints([*before, last])
        if minimize([np.zeros(len(tied.choices)) for tied in self._space.sets], costs, limits) is not None:
            return
        nearest = minimize([table.astype(np.float64) for table in costs[-1]], costs[:-1], limits[:-1])
        assert nearest is not None, "the budgets before the last one were found to be feasible"
        least = int(self.total(last.metric, nearest.genes[None])[0])
        given = " and ".join(f"'{budget}'" for budget in before)
        raise self._refusal(last, least, f" together with {given}: the {_least(last)} within {given} has")

    def _refusal(self, budget: Budget, least: int, context: str) -> BudgetError:
        value = Fraction(least, self.denominators[budget.metric])
        name = METRICS[budget.metric]
        if budget.unit.factor < 1:  # people hardly see it in the unit of the metric
            shown = f"a {name} of {budget.unit.spell(value)}"
        elif self.denominators[budget.metric] == 1:
            shown = f"{least:,} {name}"
        else:
            shown = f"{float(value):.4g} {name}"
        return BudgetError(
            f"budget '{budget}' cannot be met{context} {shown}; ask for at least {budget.unit.spell(value)}"
        )

    def _extreme(self, metric: str, pick: Callable[[Ints], Any]) -> float:
        denominator = self.denominators[metric]
        return sum(int(pick(table)) for table in self.tables[metric]) / denominator if denominator else 0.0

    def _checked(self, subnet: Mapping[str, LayerFormat]) -> Mapping[str, LayerFormat]:
        odd = sorted(set(subnet) ^ {layer.name for layer in self._space.layers})
        if odd:
            raise InputError(f"the subnet and the space disagree on these layers: {', '.join(odd)}")
        return subnet


def _least(budget: Budget) -> str:
    return "fastest network" if budget.metric == "latency" else "smallest network"
