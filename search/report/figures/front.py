"""Accuracy against cost: the Pareto front among everything that was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eqnet.search.report import style
from eqnet.search.report.units import METRICS, percent, prefix
from eqnet.search.result import Cost, ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_HEIGHT = 4.6
_ROOM = 0.06
"""Part of the y range that stays free above and below."""


def draw_front(data: ReportData) -> Figure | None:
    """x: the budget's metric; y: validation accuracy in percent."""
    result, metric = data.result, METRICS[data.metric]
    accuracy = result.accuracy
    if accuracy is None:
        return None

    def cost(of: Cost) -> float:
        value = getattr(of, data.metric)
        return float("nan") if value is None else float(value)

    cloud = np.array([(x, y) for x, _, y in data.measured], dtype=float).reshape(-1, 2)
    expected = sorted((cost(p.cost), p.predicted_score) for p in result.front)
    front = sorted((cost(p.cost), p.validation) for p in result.front if p.validation is not None)
    uniform = {bits: (cost(u.cost), u.validation) for bits, u in sorted(accuracy.uniform.items())}
    winner = (cost(result.cost), accuracy.validation)
    limits = [b.limit for b in result.budget if b.metric == data.metric]
    floors = [b.limit for b in result.budget if b.metric == "accuracy"]

    every_x = [x for x, _ in [*cloud, *expected, *uniform.values(), winner]] + limits
    factor, symbol = prefix(max(map(abs, every_x))) if metric.prefixed else (1.0, "")
    shown_y = [accuracy.fp32_validation, winner[1], *(y for _, y in front), *floors]
    if len(cloud):
        # The worst of what was drawn at random would squeeze all that matters into one line.
        shown_y.append(float(np.quantile(cloud[:, 1], 0.25)))
    else:
        shown_y += [y for _, y in uniform.values()]
    room = max(max(shown_y) - min(shown_y), 0.01) * _ROOM
    bottom = max(min(shown_y) - 2 * room, 0.0)
    top = max([*shown_y, *cloud[:, 1], *(y for _, y in uniform.values())]) + 2 * room

    figure = style.new_figure(style.WIDTH, _HEIGHT)
    ax = figure.add_subplot()
    handles: list[Line2D] = [
        ax.axhline(100 * accuracy.fp32_validation, color=style.MUTED, linestyle=(0, (5, 3)), linewidth=1, zorder=1.5)
    ]
    handles[0].set_label(f"fp32: {percent(accuracy.fp32_validation)}")
    for floor in floors:
        line = ax.axhline(100 * floor, color=style.VERMILLION, linestyle=(0, (1, 1.5)), linewidth=1.2, zorder=1.5)
        line.set_label(f"budget: at least {percent(floor)}")
        handles.append(line)
    for limit in limits:
        line = ax.axvline(limit / factor, color=style.VERMILLION, linewidth=1.2, zorder=1.5)
        line.set_label(f"budget: {metric.text(limit)}")
        handles.append(line)
    if len(cloud):
        inside = cloud[cloud[:, 1] >= bottom]
        handles += ax.plot(
            inside[:, 0] / factor,
            100 * inside[:, 1],
            "o",
            markersize=3.2,
            color=style.DOT,
            alpha=0.55,
            markeredgewidth=0,
            label=f"measured subnets ({len(cloud)})",
            zorder=2,
        )
        outside = cloud[cloud[:, 1] < bottom]
        ax.plot(
            outside[:, 0] / factor,
            np.full(len(outside), 100 * (bottom + 0.35 * room)),
            "v",
            markersize=3.2,
            color=style.DOT,
            alpha=0.55,
            markeredgewidth=0,
            zorder=2,
        )
    for points, mark, what in ((expected, "--", "predicted"), (front, "o-", "measured")):
        if len(points) > 1:  # the found network alone is no front
            handles += ax.plot(
                [x / factor for x, _ in points],
                [100 * y for _, y in points],
                mark,
                color=style.BLUE,
                markersize=4,
                linewidth=1.2,
                label=f"Pareto front, {what}",
                zorder=3,
            )
    if uniform:
        handles += _draw_uniform(ax, uniform, factor, bottom, room)
    if winner[0] == winner[0]:  # not NaN: a weight-only network has no activation bits
        handles += ax.plot(
            [winner[0] / factor],
            [100 * winner[1]],
            "*",
            markersize=15,
            color=style.VERMILLION,
            markeredgecolor=style.PAPER,
            markeredgewidth=0.8,
            label=f"this network: {percent(winner[1])}",
            zorder=5,
        )
    ax.set_xlabel(f"{metric.label} ({symbol}{metric.unit})")
    ax.set_ylabel("Validation accuracy (%)")
    ax.set_ylim(100 * bottom, 100 * top)
    ax.margins(x=0.04)
    style.legend_below(figure, handles, 3)
    return figure


def _draw_uniform(
    ax: Axes, uniform: dict[int, tuple[float, float]], factor: float, bottom: float, room: float
) -> list[Line2D]:
    """Green squares with the width inside, so that no label can cover another mark."""
    from matplotlib.lines import Line2D

    for bits, (x, y) in uniform.items():
        if x != x:
            continue
        below = y < bottom
        height = 100 * (bottom + 0.9 * room if below else y)
        ax.plot(
            [x / factor],
            [height],
            "v" if below else "s",
            markersize=13 if below else 10,
            color=style.GREEN,
            markeredgecolor=style.PAPER,
            markeredgewidth=0.8,
            zorder=4,
            clip_on=False,
        )
        ax.annotate(
            str(bits),
            (x / factor, height),
            xytext=(0, 1 if below else 0),
            textcoords="offset points",
            ha="center",
            va="center_baseline",
            fontsize=7,
            fontweight="bold",
            color="#fdfdfd",
            zorder=4.5,
        )
        if below:
            ax.annotate(
                percent(y),
                (x / factor, height),
                xytext=(8, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=7,
                color=style.INK,
                zorder=4.5,
            )
    return [
        Line2D([], [], linestyle="none", marker="s", markersize=8, color=style.GREEN, label="uniform networks, by bits")
    ]
