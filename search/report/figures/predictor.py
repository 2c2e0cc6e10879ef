"""How well the predictor does on subnets that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eqnet.search.report import style
from eqnet.search.report.units import small
from eqnet.search.result import ReportData

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_predictor(data: ReportData) -> Figure | None:
    """Measured against predicted, with the agreement written in."""
    measured, predicted = np.asarray(data.held_out_measured, float), np.asarray(data.held_out_predicted, float)
    if not len(measured):
        return None
    unit = data.held_out_unit or data.result.quality.name
    both = np.concatenate([measured, predicted])
    room = (np.ptp(both) or abs(both[0]) or 1.0) * 0.06
    low, high = both.min() - room, both.max() + room
    figure = style.new_figure(style.WIDTH / 2, style.WIDTH / 2)
    ax = figure.add_subplot(aspect="equal")
    ax.plot([low, high], [low, high], color=style.MUTED, linestyle=(0, (5, 3)), linewidth=1)
    ax.plot(
        measured,
        predicted,
        "o",
        color=style.BLUE,
        markersize=4.5,
        alpha=0.75,
        markeredgecolor=style.PAPER,
        markeredgewidth=0.4,
    )
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_xlabel(f"Measured {unit}")
    ax.set_ylabel(f"Predicted {unit}")
    agreement = data.result.predictor
    lines = (
        f"Kendall τ {agreement.kendall_tau:.3f}",
        f"Pearson r {agreement.pearson:.3f}",
        f"RMSE {small(agreement.rmse)}",
        f"n {agreement.held_out}",
    )
    ax.text(
        0.03,
        0.97,
        "\n".join(lines),
        transform=ax.transAxes,
        va="top",
        linespacing=1.4,
        fontsize=8.5,
        bbox={"facecolor": style.PAPER, "edgecolor": style.RULE, "alpha": 0.9, "boxstyle": "round,pad=0.4"},
    )
    return figure
