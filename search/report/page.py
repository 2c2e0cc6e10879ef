"""The words and numbers of the page, and the template that they go into."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from eqnet.search.report.figures import FIGURES
from eqnet.search.report.figures.sizes import sizes_of
from eqnet.search.report.scores import SCORE_TEXTS
from eqnet.search.report.units import ABSENT, METRICS, duration, percent, prefixed, shown, small
from eqnet.search.result import Cost, ReportData, SearchResult


class Card(NamedTuple):
    """One number that the page shows large."""

    label: str
    value: str
    note: str


def render(data: ReportData, svgs: Mapping[str, str]) -> str:
    """The page as HTML; ``svgs`` holds the figures that were drawn, as elements, by name."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("template.html").read_text(encoding="utf-8"))
    result = data.result
    return template.render(
        task=shown(result.task),
        headline=headline(result),
        cards=cards(data),
        budgets=budgets(result),
        figures=[(kind, Markup(svgs[kind.name])) for kind in FIGURES if kind.name in svgs],
        columns=network_columns(result),
        uniform=[
            (
                f"uniform {bits}",
                *network_row(result, network.cost, network.validation, network.test, network.divergence),
            )
            for bits, network in sorted(result.scores.uniform.items())
        ],
        this_network=(
            "this network",
            *network_row(result, result.cost, result.scores.validation, result.scores.test, result.quality.measured),
        ),
        quality=result.quality.name,
        layers=[
            (
                shown(layer.name),
                shown(layer.kind),
                f"{layer.weights:,}",
                str(layer.weight_format),
                str(layer.activation_format or "float"),
                f"{layer.bytes:,}",
                small(layer.sensitivity.get(layer.weight_format.bits)),
            )
            for layer in result.layers
        ],
        search=search_rows(result),
        command=data.command,
        seed=result.seed,
        stages=[(stage, duration(seconds)) for stage, seconds in data.seconds.items()],
        versions=sorted(result.versions.items()),
    )


def network_columns(result: SearchResult) -> list[str]:
    """What ``network_row`` tells of a network."""
    last = ["Divergence"] if SCORE_TEXTS[result.score].with_divergence else []
    bits = "Stored bits per weight" if last else "Code bits"
    operations = [] if last else ["Bit operations"]
    return [bits, "Size", *operations, "Validation", "Test", *last]


def network_row(
    result: SearchResult, cost: Cost, validation: float, test: float | None, divergence: float | None
) -> list[str]:
    """One network of the table that compares them."""
    score = SCORE_TEXTS[result.score]
    size, scores = METRICS["bytes"].text(cost.bytes), [score.text(validation), score.text(test)]
    if score.with_divergence:
        return [METRICS["bpw"].text(cost.bpw), size, *scores, small(divergence)]
    return [METRICS["code_bits"].text(cost.code_bits), size, METRICS["bops"].text(cost.bops), *scores]


def headline(result: SearchResult) -> str:
    """E.g. ``4.00 code bits, 31.2 kB, 96.4 % on test; fp32 97.2 %``; on validation where there is no test."""
    scores, cost, score = result.scores, result.cost, SCORE_TEXTS[result.score]
    on, reached, reference = (
        ("validation", scores.validation, scores.fp32_validation)
        if scores.test is None
        else ("test", scores.test, scores.fp32_test)
    )
    size = METRICS["bytes"].text(cost.bytes)
    bits = METRICS["bpw"].text(cost.bpw) if score.with_divergence else f"{cost.code_bits:.2f} code bits"
    named = f"{score.name} {score.text(reached)}" if score.with_divergence else score.text(reached)
    text = f"{bits}, {size}, {named} on {on}"
    return text if reference is None else f"{text}; fp32 {score.text(reference)}"


def cards(data: ReportData) -> list[Card]:
    """The winner at a glance."""
    result = data.result
    cost, scores, predictor = result.cost, result.scores, result.predictor
    score = SCORE_TEXTS[result.score]
    float_size = next((size.total for size in sizes_of(data) if size.label == "fp32"), 0)
    found = [
        Card("Code bits", f"{cost.code_bits:.2f}", f"{cost.bpw:.2f} bits per weight with scales and zero points"),
        Card(
            "Size",
            METRICS["bytes"].text(cost.bytes),
            f"{float_size / cost.bytes:.1f} × smaller than fp32" if float_size and cost.bytes else "",
        ),
    ]
    if result.latency is not None:
        seconds = METRICS["latency"].text
        low, high = seconds(result.latency.low), seconds(result.latency.high)
        found.append(Card("Latency", seconds(result.latency.measured), f"half of the calls: {low} to {high}"))
    if scores.test is not None:
        note = f"{score.difference(scores.test, scores.fp32_test)} to fp32" if scores.fp32_test is not None else ""
        found.append(Card(f"Test {score.name}", score.text(scores.test), note))
    found.append(
        Card(
            f"Validation {score.name}",
            score.text(scores.validation),
            f"{score.difference(scores.validation, scores.fp32_validation)} to fp32",
        )
    )
    if score.with_divergence:
        found.append(Card("Divergence", f"{small(result.quality.measured)} nats", "from the float model, each token"))
    if scores.uniform:
        bits = min(scores.uniform, key=lambda b: (abs(scores.uniform[b].cost.code_bits - cost.code_bits), b))
        nearest = scores.uniform[bits]
        on_test = scores.test is not None and nearest.test is not None
        gain = (
            score.difference(scores.test, nearest.test)
            if on_test
            else score.difference(scores.validation, nearest.validation)
        )
        where = "test" if on_test else "validation"
        found.append(
            Card(f"Against uniform {bits}", gain, f"on {where}; it takes {METRICS['bytes'].text(nearest.cost.bytes)}")
        )
    activation = cost.activation_bits
    if not score.with_divergence:
        found += [
            Card(
                "Activation bits",
                "float" if activation is None else f"{activation:.2f}",
                "weight-only" if activation is None else "mean over the quantized inputs",
            ),
            Card("Bit operations", prefixed(cost.bops, "BOP"), "per sample"),
        ]
    found.append(
        Card(
            "Predictor",
            f"τ {predictor.kendall_tau:.2f}",
            f"on {predictor.held_out} held-out subnets; linear model {predictor.baseline.kendall_tau:.2f}",
        )
    )
    return found


def budgets(result: SearchResult) -> list[tuple[str, str, str, str]]:
    """Each budget as given, what it bounds, its limit and what the winner has."""
    rows = []
    for budget in result.budget:
        metric = METRICS.get(budget.metric)
        if metric is not None:
            reached = getattr(result.cost, budget.metric)
            if budget.metric == "latency" and result.latency is not None:
                reached = result.latency.measured
            limit, value = metric.text(budget.limit), metric.text(reached)
            rows.append((budget.text, metric.label, f"at most {limit}", value))
        elif budget.metric == "accuracy":
            floor = f"at least {percent(budget.limit)}"
            rows.append((budget.text, "Validation accuracy", floor, percent(result.scores.validation)))
        else:
            rows.append((budget.text, budget.metric, f"at most {budget.limit:g}", ABSENT))
    return rows


def search_rows(result: SearchResult) -> list[tuple[str, Any]]:
    """How the search and its predictor did."""
    search, predictor, quality = result.search, result.predictor, result.quality
    baseline, latency, seconds = predictor.baseline, result.latency, METRICS["latency"].text
    score = SCORE_TEXTS[result.score]
    timed = (
        [
            ("Latency of this network, predicted", seconds(latency.predicted)),
            ("Latency of this network, measured", seconds(latency.measured)),
            ("Latency measured on", latency.machine),
        ]
        if latency is not None
        else []
    )
    agreement = "τ {0.kendall_tau:.3f}, r {0.pearson:.3f}, RMSE {0.rmse:.3g}"
    return [
        ("Rounds", search.rounds),
        ("Generations", search.generations),
        ("Subnets measured", predictor.measured),
        ("Subnets held out", predictor.held_out),
        ("Predictor on them", agreement.format(predictor)),
        ("Linear model on them", agreement.format(baseline)),
        ("Best found, predicted", small(search.best)),
        ("Exact optimum of the additive model, predicted", small(search.exact_optimum)),
        (f"{quality.name.capitalize()} of this network, predicted", small(quality.predicted)),
        (f"{quality.name.capitalize()} of this network, measured", small(quality.measured)),
        (f"Validation {score.name}, predicted", score.text(result.scores.predicted)),
        (f"Validation {score.name}, measured", score.text(result.scores.validation)),
        *timed,
    ]
