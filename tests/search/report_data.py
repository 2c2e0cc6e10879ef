"""A made-up search, as like a real one as a report needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eqnet.formats import Format, Granularity, LayerFormat
from eqnet.search.result import (
    Baseline,
    Cost,
    FrontPoint,
    LayerResult,
    Predictor,
    Quality,
    ReportData,
    Scores,
    SearchResult,
    SearchSummary,
    StatedBudget,
    Uniform,
)
from eqnet.subnet import Subnet

FLOAT_BYTES = 900
"""Biases and what else stays in floating point."""


def names_of(count: int) -> list[str]:
    """Short names of a small network, long dotted ones of a deep one."""
    if count <= 8:
        return ["conv1", "conv2", "conv3", "fc1", "fc2", "fc3", "fc4", "head"][:count]
    parts = ["attention.self.query_key_value", "attention.output.dense", "intermediate.dense", "output.dense"]
    return [f"transformer.encoder.layers.{i // 4}.{parts[i % 4]}" for i in range(count)]


def make_report_data(
    layers: int = 5,
    *,
    names: Sequence[str] | None = None,
    weight_only: bool = False,
    sensitive: bool = True,
    perplexity: bool = False,
    seed: int = 0,
) -> ReportData:
    """A report's data; more layers, other names, no activation formats, no sensitivities or perplexities on request."""
    rng = np.random.default_rng(seed)
    names = list(names) if names is not None else names_of(layers)
    weights = np.round(10 ** rng.uniform(3, 5, len(names))).astype(int)
    scale = 10 ** rng.uniform(-1, 1, len(names)) / len(names)

    def divergence(bits: np.ndarray) -> float:
        return float(np.sum(scale * 4.0 ** (2 - bits.astype(float))))

    def score(bits: np.ndarray) -> float:
        if perplexity:
            return round(12 * math.exp(divergence(bits)), 3)
        return round(0.972 - 0.9 * (1 - math.exp(-0.35 * divergence(bits))), 4)

    def formats(bits: np.ndarray) -> dict[str, LayerFormat]:
        return {
            name: LayerFormat(
                Format(int(b), granularity=Granularity.CHANNEL),
                None if weight_only else Format(min(int(b) + 1, 8), symmetric=False),
            )
            for name, b in zip(names, bits, strict=True)
        }

    def layer_bytes(i: int, bits: int) -> int:
        return int(weights[i]) * int(bits) // 8 + 4 * int(weights[i] ** 0.5)

    def cost(bits: np.ndarray) -> Cost:
        total = sum(layer_bytes(i, b) for i, b in enumerate(bits))
        active = np.minimum(bits + 1, 8)
        return Cost(
            code_bits=float(np.average(bits, weights=weights)),
            bpw=8 * total / float(weights.sum()),
            bytes=total + FLOAT_BYTES,
            bops=int(np.sum(weights * 64 * bits * (32 if weight_only else active))),
            activation_bits=None if weight_only else float(active.mean()),
        )

    def draw() -> np.ndarray:
        return rng.integers(2, 9, len(names))

    drawn = [draw() for _ in range(150)]

    def best_within(limit: float) -> np.ndarray:
        """Widens, as long as the budget holds, the layer that gains most for its weights."""
        bits = np.full(len(names), 2)
        while True:
            gain = np.where(bits < 8, scale * 4.0 ** (2.0 - bits) / weights, -1.0)
            gain[weights > limit * weights.sum() - weights @ bits] = -1.0
            if gain.max() < 0:
                return bits
            bits[gain.argmax()] += 1

    best = best_within(4.5)
    front = [best_within(limit) for limit in (2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7)]
    held_out = np.log([divergence(b) for b in drawn[:40]])
    optimum = float(np.log(divergence(best))) - 0.02
    chosen = formats(best)
    measured = score(best)
    kind = "perplexity" if perplexity else "accuracy"
    scores = Scores(
        predicted=None,
        validation=measured,
        test=round(measured * 0.996, 4),
        fp32_validation=12.0 if perplexity else 0.975,
        fp32_test=12.1 if perplexity else 0.972,
        uniform={
            b: Uniform(
                score(same),
                score(same) * 0.997,
                cost(same),
                divergence(same) if perplexity else None,
            )
            for b in range(2, 9)
            for same in [np.full(len(names), b)]
        },
    )
    bounds = [StatedBudget("4.5bit", "code_bits", 4.5)]
    if not perplexity:
        bounds.append(StatedBudget("90%acc", "accuracy", 0.9))
    result = SearchResult(
        task="digits",
        budget=tuple(bounds),
        subnet=Subnet(chosen),
        cost=cost(best),
        **{kind: scores},
        quality=Quality("divergence", predicted=divergence(best) * 1.03, measured=divergence(best)),
        predictor=Predictor(0.873, 0.981, 0.142, 40, 150, Baseline(0.71, 0.9, 0.35)),
        layers=tuple(
            LayerResult(
                name=name,
                kind="Conv2d" if name.startswith("conv") else "Linear",
                weights=int(weights[i]),
                weight_format=chosen[name].weight,
                activation_format=chosen[name].activation,
                bytes=layer_bytes(i, best[i]),
                sensitivity={b: float(scale[i] * 4.0 ** (2 - b)) for b in range(2, 9)} if sensitive else {},
            )
            for i, name in enumerate(names)
        ),
        front=tuple(
            FrontPoint(
                Subnet(formats(b)),
                cost(b),
                divergence(b),
                validation=score(b) if i != 1 else None,
                **{f"predicted_{kind}": score(b)},
            )
            for i, b in enumerate(front)
        ),
        search=SearchSummary(generations=300, exact_optimum=optimum, best=optimum - 0.03, rounds=3),
        seed=seed,
        versions={"python": "3.12.3", "torch": "2.8.0", "numpy": "2.2.0", "eqnet": "0.1.0"},
    )
    return ReportData(
        result=result,
        metric="code_bits",
        measured=[(cost(b).code_bits, divergence(b), score(b)) for b in drawn],
        held_out_predicted=held_out + rng.normal(0, 0.14, len(held_out)),
        held_out_measured=held_out,
        held_out_unit="ln divergence",
        convergence=[optimum + 0.04 * k + 0.9 * np.exp(-np.arange(100) / 12) - 0.03 for k in (2, 1, 0)],
        optima=[optimum + 0.04 * k for k in (2, 1, 0)],
        command="eqnet search digits --budget 4.5bit --budget 90%acc --seed 0",
        seconds={"train": 184.2, "measure": 61.5, "search": 12.25},
    )
