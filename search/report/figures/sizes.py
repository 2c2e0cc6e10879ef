"""What the networks store, and what it consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eqnet.search.report import style
from eqnet.search.report.units import METRICS, prefix
from eqnet.search.result import ReportData, Size

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sizes_of(data: ReportData) -> list[Size]:
    """The sizes that were given, else those that follow from the result: fp32, uniform 8 and 4, this network."""
    if data.sizes:
        return list(data.sizes)
    result = data.result
    stored = [layer for layer in result.layers if layer.bytes]
    rest = max(result.cost.bytes - sum(layer.bytes for layer in stored), 0)
    codes = sum(layer.weights * layer.weight_format.bits // 8 for layer in stored)
    weights = 4 * sum(layer.weights for layer in stored)
    uniform = result.scores.uniform
    return [
        Size("fp32", weights + rest, weights),
        *(Size(f"uniform {bits}", uniform[bits].cost.bytes) for bits in (8, 4) if bits in uniform),
        Size("this network", result.cost.bytes, codes, result.cost.bytes - codes - rest),
    ]


def draw_sizes(data: ReportData) -> Figure:
    """Horizontal bars: codes, scales and zero points, and the rest; or a total where nothing more is known."""
    sizes = sizes_of(data)
    largest = max(max(size.total for size in sizes), 1)
    factor, symbol = prefix(largest)
    figure = style.new_figure(style.WIDTH, 0.42 * len(sizes) + 1.1)
    ax = figure.add_subplot()
    seen: dict[str, object] = {}
    labels = ("weights (codes)", "scales and zero points", "rest (biases, what stays in floating point)", "total")
    for y, size in enumerate(sizes):
        left = 0.0
        if size.codes is None:
            parts = [(labels[3], size.total, style.DOT)]
        else:
            rest = size.total - size.codes - size.scales
            parts = [
                (labels[0], size.codes, style.BLUE),
                (labels[1], size.scales, style.AMBER),
                (labels[2], rest, style.GREEN),
            ]
        for label, part, colour in parts:
            if part > 0:
                bar = ax.barh(y, part / factor, 0.62, left, color=colour, edgecolor=style.PAPER, lw=0.6, label=label)
                seen.setdefault(label, bar)
                left += part / factor
        ax.annotate(
            METRICS["bytes"].text(size.total),
            (left, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=8,
        )
    ax.set_yticks(range(len(sizes)), [size.label for size in sizes])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.set_xlim(0, 1.1 * largest / factor)
    ax.set_xlabel(f"Stored ({symbol}B)")
    style.legend_below(figure, [seen[label] for label in labels if label in seen], 4)
    return figure
