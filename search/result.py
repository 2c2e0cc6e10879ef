"""What a search found, as it is kept in ``result.json``, and what a report shows beside it.

``result.json`` is one object with these keys, in this order::

    schema      1: the version of this layout
    task        the task's name
    budget      [{text: "4bit", metric: "code_bits", limit: 4.0}, ...], as given and as read
    subnet      {LAYER: {weight: "int4:channel", activation: "uint8:tensor" or null}, ...}
    cost        {code_bits, bpw, bytes, bops, activation_bits, latency}; activation_bits is null if weight-only, and
                latency is there only if a budget bounds it: in seconds, predicted
    accuracy    {predicted, validation, test, fp32_validation, fp32_test,
                 uniform: {"2": {validation, test, cost: {...}}, ... "8"}}
    perplexity  the same for a language model, which has no accuracy; its uniform networks have a divergence, too
    quality     {name, predicted, measured}: what the search minimises, of the winner
    predictor   {kendall_tau, pearson, rmse, held_out, measured, baseline: {kendall_tau, pearson, rmse}}
    layers      [{name, kind, weights, weight_format, activation_format, bytes,
                  sensitivity: {"2": ..., ... "8": ...}}, ...], in the order in which they run
    front       [{subnet, cost, predicted, predicted_accuracy, validation}, ...]: the Pareto front; validation is null
                if not measured; of a language model, predicted_perplexity
    search      {generations, exact_optimum, best, rounds}
    latency     {predicted, measured, low, high, machine}: of the winner, in seconds; there only if a budget bounds it
    seed        of everything that was drawn
    versions    {eqnet, numpy, python, torch, ...}

Accuracies are fractions, sizes are bytes. Neither times nor paths nor dates are kept, but for the latency that was
asked for: the same seed writes the same file, byte for byte; with a latency, on the same timings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from eqnet.errors import InputError
from eqnet.files import write_atomically
from eqnet.formats import Format
from eqnet.search.codec import LEFT_OUT, decode, encode
from eqnet.subnet import Subnet

SCHEMA = 1
"""The version of the layout of ``result.json`` that this module reads and writes."""

Values: TypeAlias = Sequence[float] | np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class StatedBudget:
    """One budget, as given and as read.

    Attributes:
        text: what the user wrote, e.g. ``4.25bpw``.
        metric: the attribute of ``Cost`` that it bounds, or ``accuracy``.
        limit: in the metric's unit: bits, bytes, bit operations, seconds; a fraction for ``accuracy``.
    """

    text: str
    metric: str
    limit: float


@dataclass(frozen=True)
class Cost:
    """What a subnet costs.

    Attributes:
        code_bits: mean width of a weight's code.
        bpw: stored bits per weight, scales and zero points in.
        bytes: of the artifact's tensors.
        bops: bit operations of one sample: multiply-accumulates times the widths of both operands.
        activation_bits: mean width of an activation's code; None if none is quantized.
        latency: seconds for one input, as predicted from timings of layers; None unless a budget bounds it.
    """

    code_bits: float
    bpw: float
    bytes: int
    bops: int
    activation_bits: float | None = None
    latency: float | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class MeasuredLatency:
    """What the winner takes for one input, in seconds.

    Attributes:
        predicted: from timings of layers.
        measured: of the network as it is deployed; half of the calls took longer.
        low, high: between them lies the middle half of the calls.
        machine: processor, instruction set, threads and versions.
    """

    predicted: float
    measured: float
    low: float
    high: float
    machine: str


@dataclass(frozen=True)
class Uniform:
    """Score and cost of the network whose every layer has the same width.

    Attributes:
        validation: its score.
        test: None if not measured.
        cost: what it costs.
        divergence: on validation data, in nats; None if not measured.
    """

    validation: float
    test: float | None
    cost: Cost
    divergence: float | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class Scores:
    """Scores of the winner and of what it is compared with: accuracies as fractions, or perplexities.

    Attributes:
        predicted: from the predicted quality, before it was measured; None if nothing tells.
        validation: on the data that the search saw.
        test: on data that it did not see; None if there is none.
        fp32_validation, fp32_test: of the model that was given.
        uniform: by width, of the networks with one width throughout.
    """

    predicted: float | None
    validation: float
    test: float | None
    fp32_validation: float
    fp32_test: float | None
    uniform: Mapping[int, Uniform]


@dataclass(frozen=True)
class Quality:
    """What the search minimises, e.g. ``divergence``, as predicted and as measured for the winner."""

    name: str
    predicted: float
    measured: float


@dataclass(frozen=True)
class Baseline:
    """How well a linear model follows the same held-out measurements."""

    kendall_tau: float
    pearson: float
    rmse: float


@dataclass(frozen=True)
class Predictor:
    """How well predictions follow measurements that the predictor has not seen.

    Attributes:
        kendall_tau: rank correlation.
        pearson: linear correlation.
        rmse: root of the mean squared error, in the unit of the predictions.
        held_out: number of measurements kept from it.
        measured: number of all measurements.
        baseline: the same of a linear model.
    """

    kendall_tau: float
    pearson: float
    rmse: float
    held_out: int
    measured: int
    baseline: Baseline


@dataclass(frozen=True)
class LayerResult:
    """One layer of the winner.

    Attributes:
        name: dotted path of the module.
        kind: class of the module, e.g. ``Conv2d``.
        weights: number of weights.
        weight_format, activation_format: what it runs; no activation format means weight-only.
        bytes: stored codes, scales and zero points; 0 if another layer stores them.
        sensitivity: by width of its weights, the nats of divergence that they add, as the additive model estimates.
    """

    name: str
    kind: str
    weights: int
    weight_format: Format
    activation_format: Format | None
    bytes: int
    sensitivity: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FrontPoint:
    """One subnet of the Pareto front.

    Attributes:
        predicted: its quality.
        predicted_accuracy, predicted_perplexity: what such a quality goes with; the one that the result has.
        validation: its score on all validation data, if it was measured.
    """

    subnet: Subnet
    cost: Cost
    predicted: float
    predicted_accuracy: float | None = field(default=None, metadata=LEFT_OUT)
    validation: float | None = None
    predicted_perplexity: float | None = field(default=None, metadata=LEFT_OUT)

    @property
    def predicted_score(self) -> float:
        """The accuracy or the perplexity."""
        found = self.predicted_perplexity if self.predicted_accuracy is None else self.predicted_accuracy
        if found is None:
            raise InputError("a point of the front has neither 'predicted_accuracy' nor 'predicted_perplexity'")
        return found


@dataclass(frozen=True)
class SearchSummary:
    """How the search went.

    Attributes:
        generations: of all rounds together.
        exact_optimum: the predicted quality of the additive model's exact optimum; None if it was not sought.
        best: the predicted quality of the best subnet found.
        rounds: of searching, measuring and refitting.
    """

    generations: int
    exact_optimum: float | None
    best: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """All that ``result.json`` holds; the attributes are its keys.

    Raises:
        InputError: it has no scores, or those of two kinds.
    """

    schema: int = SCHEMA
    task: str
    budget: tuple[StatedBudget, ...]
    subnet: Subnet
    cost: Cost
    accuracy: Scores | None = field(default=None, metadata=LEFT_OUT)
    perplexity: Scores | None = field(default=None, metadata=LEFT_OUT)
    quality: Quality
    predictor: Predictor
    layers: tuple[LayerResult, ...]
    front: tuple[FrontPoint, ...]
    search: SearchSummary
    latency: MeasuredLatency | None = field(default=None, metadata=LEFT_OUT)
    seed: int
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.accuracy is None and self.perplexity is None:
            raise InputError("key 'accuracy' is missing")
        if self.accuracy is not None and self.perplexity is not None:
            raise InputError("key 'perplexity': a result has this or 'accuracy', not both")

    @property
    def score(self) -> str:
        """What the networks are presented by: ``accuracy`` or ``perplexity``."""
        return "perplexity" if self.accuracy is None else "accuracy"

    @property
    def scores(self) -> Scores:
        """The accuracies, or the perplexities."""
        found: Scores = getattr(self, self.score)
        return found

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values, keys in their fixed order.

        Raises:
            InputError: a value is of another type than documented, infinite or NaN; the message names its key.
        """
        encoded: dict[str, Any] = encode(SearchResult, self)
        return encoded

    @classmethod
    def from_json(cls, data: object) -> SearchResult:
        """Reads what ``to_json`` gives.

        Raises:
            InputError: a key is missing, unknown or of another type than documented; the message names it.
        """
        if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
            raise InputError(
                f"key 'schema': it is {data['schema']!r}, and this version of eqnet reads {SCHEMA}; "
                "read it with the version that wrote it, or search again"
            )
        result: SearchResult = decode(cls, data)
        return result

    def save(self, path: str | Path) -> None:
        """Writes the result as JSON.

        Raises:
            RunError: the file cannot be written.
        """
        # One line a key: indented throughout, networks of many layers take seconds to write, and twice the space.
        lines = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in self.to_json().items())
        write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def load(cls, path: str | Path) -> SearchResult:
        """Reads what ``save`` wrote; raises InputError, naming the file and the key, if it is not a result."""
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as e:
            raise InputError(f"{path}: cannot be read as a result ({e})") from e
        except InputError as e:
            raise InputError(f"{path}: {e}") from e


@dataclass(frozen=True)
class Size:
    """What one network occupies, in bytes.

    Attributes:
        label: the network, e.g. ``uniform 4``.
        total: everything that is stored.
        codes: of it, the weights (their codes); None if only the total is known.
        scales: of it, scales and zero points.
    """

    label: str
    total: int
    codes: int | None = None
    scales: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportData:
    """A result, and what a report shows beside it.

    Attributes:
        result: of the search.
        metric: the attribute of ``Cost`` on the x axis of the Pareto front.
        measured: (cost in ``metric``, quality, validation score) of each measured subnet.
        held_out_predicted, held_out_measured: of the same held-out subnets, in the unit of the predictor.
        held_out_unit: that unit, e.g. ``ln divergence``; the quality's name if empty.
        convergence: for each round, the best predicted quality after each generation.
        optima: for each round, the exact optimum's predicted quality; the result's for all rounds if empty.
        sizes: networks to compare; worked out of the result, as totals where nothing more is known, if empty.
        command: that makes this report again.
        seconds: that each stage took.
    """

    result: SearchResult
    metric: str = "code_bits"
    measured: Sequence[tuple[float, float, float]] = ()
    held_out_predicted: Values = ()
    held_out_measured: Values = ()
    held_out_unit: str = ""
    convergence: Sequence[Values] = ()
    optima: Values = ()
    sizes: Sequence[Size] = ()
    command: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
