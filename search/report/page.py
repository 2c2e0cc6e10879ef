"""The words and numbers of the page, and the template that they go into."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from eqnet.search.report.figures import FIGURES
from eqnet.search.report.figures.sizes import sizes_of
from eqnet.search.report.units import ABSENT, METRICS, duration, percent, points, prefixed, shown, small
from eqnet.search.result import ReportData, SearchResult


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
        uniform=[
            (
                f"uniform {bits}",
                METRICS["code_bits"].text(network.cost.code_bits),
                METRICS["bytes"].text(network.cost.bytes),
                METRICS["bops"].text(network.cost.bops),
                percent(network.validation),
                percent(network.test),
            )
            for bits, network in sorted(result.accuracy.uniform.items())
        ],
        this_network=(
            "this network",
            METRICS["code_bits"].text(result.cost.code_bits),
            METRICS["bytes"].text(result.cost.bytes),
            METRICS["bops"].text(result.cost.bops),
            percent(result.accuracy.validation),
            percent(result.accuracy.test),
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


def headline(result: SearchResult) -> str:
    """E.g. ``4.00 code bits, 31.2 kB, 96.4 % on test; fp32 97.2 %``; on validation where there is no test."""
    accuracy, cost = result.accuracy, result.cost
    on, reached, reference = (
        ("validation", accuracy.validation, accuracy.fp32_validation)
        if accuracy.test is None
        else ("test", accuracy.test, accuracy.fp32_test)
    )
    text = f"{cost.code_bits:.2f} code bits, {METRICS['bytes'].text(cost.bytes)}, {percent(reached)} on {on}"
    return text if reference is None else f"{text}; fp32 {percent(reference)}"


def cards(data: ReportData) -> list[Card]:
    """The winner at a glance."""
    result = data.result
    cost, accuracy, predictor = result.cost, result.accuracy, result.predictor
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
    if accuracy.test is not None:
        note = f"{points(accuracy.test, accuracy.fp32_test)} to fp32" if accuracy.fp32_test is not None else ""
        found.append(Card("Test accuracy", percent(accuracy.test), note))
    found.append(
        Card(
            "Validation accuracy",
            percent(accuracy.validation),
            f"{points(accuracy.validation, accuracy.fp32_validation)} to fp32",
        )
    )
    if accuracy.uniform:
        bits = min(accuracy.uniform, key=lambda b: (abs(accuracy.uniform[b].cost.code_bits - cost.code_bits), b))
        nearest = accuracy.uniform[bits]
        on_test = accuracy.test is not None and nearest.test is not None
        gain = points(accuracy.test, nearest.test) if on_test else points(accuracy.validation, nearest.validation)
        where = "test" if on_test else "validation"
        found.append(
            Card(f"Against uniform {bits}", gain, f"on {where}; it takes {METRICS['bytes'].text(nearest.cost.bytes)}")
        )
    activation = cost.activation_bits
    found += [
        Card(
            "Activation bits",
            "float" if activation is None else f"{activation:.2f}",
            "weight-only" if activation is None else "mean over the quantized inputs",
        ),
        Card("Bit operations", prefixed(cost.bops, "BOP"), "per sample"),
        Card(
            "Predictor",
            f"τ {predictor.kendall_tau:.2f}",
            f"on {predictor.held_out} held-out subnets; linear model {predictor.baseline.kendall_tau:.2f}",
        ),
    ]
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
            rows.append((budget.text, "Validation accuracy", floor, percent(result.accuracy.validation)))
        else:
            rows.append((budget.text, budget.metric, f"at most {budget.limit:g}", ABSENT))
    return rows


def search_rows(result: SearchResult) -> list[tuple[str, Any]]:
    """How the search and its predictor did."""
    search, predictor, quality = result.search, result.predictor, result.quality
    baseline, latency, seconds = predictor.baseline, result.latency, METRICS["latency"].text
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
        ("Validation accuracy, predicted", percent(result.accuracy.predicted)),
        ("Validation accuracy, measured", percent(result.accuracy.validation)),
        *timed,
    ]
