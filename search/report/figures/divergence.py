"""Divergence against cost: measured subnets, the front that is predicted, uniform networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eqnet.search.report import style
from eqnet.search.report.scores import SCORE_TEXTS
from eqnet.search.report.units import METRICS, prefix
from eqnet.search.result import Cost, ReportData

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_HEIGHT = 4.6
_LEAST = 1e-6
"""Nats; what diverges less is drawn there."""


def draw_divergence(data: ReportData) -> Figure | None:
    """x: the budget's metric; y: divergence in nats, for results that are presented with it."""
    result, metric = data.result, METRICS[data.metric]
    if not SCORE_TEXTS[result.score].with_divergence:
        return None

    def cost(of: Cost) -> float:
        value = getattr(of, data.metric)
        return float("nan") if value is None else float(value)

    cloud = np.array([(x, y) for x, y, _ in data.measured], dtype=float).reshape(-1, 2)
    front = np.array(sorted((cost(p.cost), p.predicted) for p in result.front), dtype=float).reshape(-1, 2)
    uniform = {b: (cost(u.cost), u.divergence) for b, u in result.scores.uniform.items() if u.divergence is not None}
    winner = (cost(result.cost), result.quality.measured)
    limits = [b.limit for b in result.budget if b.metric == data.metric]
    every_x = [*cloud[:, 0], *front[:, 0], *(x for x, _ in uniform.values()), winner[0], *limits]
    factor, symbol = prefix(max(map(abs, every_x))) if metric.prefixed else (1.0, "")

    figure = style.new_figure(style.WIDTH, _HEIGHT)
    ax = figure.add_subplot()
    style.logarithmic(ax)
    handles: list[Line2D] = []

    def points(xy: np.ndarray[Any, Any], mark: str, label: str, **looks: Any) -> None:
        if len(xy):
            drawn = ax.plot(xy[:, 0] / factor, np.maximum(xy[:, 1], _LEAST), mark, label=label, **looks)
            handles.extend(drawn)

    for limit in limits:
        handles.append(ax.axvline(limit / factor, color=style.VERMILLION, linewidth=1.2, zorder=1.5))
        handles[-1].set_label(f"budget: {metric.text(limit)}")
    few: dict[str, Any] = {"color": style.DOT, "alpha": 0.55, "markeredgewidth": 0}
    points(cloud, "o", f"measured subnets ({len(cloud)})", markersize=3.2, **few)
    points(front if len(front) > 1 else front[:0], "--", "Pareto front, predicted", color=style.BLUE, linewidth=1.2)
    edges: dict[str, Any] = {"markeredgecolor": style.PAPER, "markeredgewidth": 0.8}
    squares = np.array(list(uniform.values()), dtype=float).reshape(-1, 2)
    points(squares, "s", "uniform networks, by bits", markersize=10, color=style.GREEN, zorder=4, **edges)
    for bits, (x, y) in uniform.items():
        inside: dict[str, Any] = {
            "ha": "center",
            "va": "center_baseline",
            "fontsize": 7,
            "fontweight": "bold",
            "color": "#fdfdfd",
        }
        ax.annotate(str(bits), (x / factor, max(y, _LEAST)), zorder=4.5, **inside)
    points(np.array([winner]), "*", "this network", markersize=15, color=style.VERMILLION, zorder=5, **edges)
    ax.set_xlabel(f"{metric.label} ({symbol}{metric.unit})")
    ax.set_ylabel("Divergence (nats)")
    ax.margins(x=0.04)
    style.legend_below(figure, handles, 3)
    return figure
