"""How the search closed in on its best subnet, beside the exact optimum of the additive model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eqnet.search.report import style
from eqnet.search.result import ReportData

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


def draw_convergence(data: ReportData) -> Figure | None:
    """Rounds one after another, the best predicted quality of each generation."""
    rounds = [np.asarray(history, float) for history in data.convergence if len(history)]
    if not rounds:
        return None
    optimum = data.result.search.exact_optimum
    optima = list(data.optima) or ([optimum] * len(rounds) if optimum is not None else [])
    figure = style.new_figure(style.WIDTH / 2, style.WIDTH / 2)
    ax = figure.add_subplot()
    handles: list[Line2D] = []
    start = 0
    for i, history in enumerate(rounds):
        line = ax.plot(start + np.arange(len(history)), history, color=style.BLUE, label="best of the search")
        end = start + len(history)
        handles += line if i == 0 else []
        if i < len(optima):
            exact = ax.plot(
                [start, end - 1],
                [optima[i], optima[i]],
                color=style.VERMILLION,
                linestyle=(0, (4, 2)),
                linewidth=1.2,
                label="exact optimum, additive model",
            )
            handles += exact if i == 0 else []
        if i:
            ax.axvline(start - 0.5, color=style.DOT, linewidth=0.8, linestyle=(0, (1, 2)))
        if len(rounds) <= 8:
            ax.text(
                start + len(history) / 2,
                1.0,
                f"round {i + 1}" if len(rounds) <= 4 else str(i + 1),
                transform=ax.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=style.MUTED,
            )
        start = end
    ax.set_xlabel("Generation")
    ax.set_ylabel(f"Predicted {data.result.quality.name}")
    ax.margins(x=0.02, y=0.08)
    style.legend_below(figure, handles, 2)
    return figure
