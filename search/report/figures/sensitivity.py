"""How much each layer disturbs the outputs, at every width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eqnet.search.report import style
from eqnet.search.report.units import shortened
from eqnet.search.result import LayerResult, ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 30
_NAME = 32
_INCHES = 8.0


def draw_sensitivity(data: ReportData) -> Figure | None:
    """One column a layer, one dot a width; dots, because bars have no honest foot on a logarithmic axis."""
    layers = data.result.layers
    values = [value for layer in layers for value in layer.sensitivity.values() if value > 0]
    if not values:
        return None
    ranges = style.bands(len(layers), _COLUMNS)
    names = shortened([layer.name for layer in layers], _NAME)
    letters = max(map(len, names))
    figure = style.new_figure(style.WIDTH, len(ranges) * (2.3 + min(letters * 0.06, 1.6)) + 0.4)
    axes = figure.subplots(len(ranges), squeeze=False, sharey=True)[:, 0]
    for ax, columns in zip(axes, ranges, strict=True):
        _draw_band(ax, [layers[i] for i in columns], [names[i] for i in columns], len(ranges[0]))
        ax.set_ylim(min(values) / 2, max(values) * 2)
        ax.set_ylabel(data.result.quality.name.capitalize())
    style.legend_below(figure, _legend(layers), 8)
    return figure


def _draw_band(ax: Axes, layers: list[LayerResult], names: list[str], columns: int) -> None:
    # A width that costs nothing at all has no place on a logarithmic axis.
    dots = [
        (x, bits, value)
        for x, layer in enumerate(layers)
        for bits, value in sorted(layer.sensitivity.items())
        if value > 0
    ]
    chosen = [(x, value) for x, bits, value in dots if bits == layers[x].weight_format.bits]
    spans: dict[int, list[float]] = {}
    for x, _, value in dots:
        spans.setdefault(x, []).append(value)
    ax.vlines(list(spans), list(map(min, spans.values())), list(map(max, spans.values())), style.DOT, lw=1, zorder=2)
    for width in sorted({bits for _, bits, _ in dots}):
        ax.plot(
            [x for x, bits, _ in dots if bits == width],
            [value for _, bits, value in dots if bits == width],
            "o",
            markersize=5.5,
            color=style.BITS_COLOURS[width],
            markeredgecolor=style.MUTED,
            markeredgewidth=0.6,
            zorder=3,
        )
    ax.plot(
        [x for x, _ in chosen],
        [value for _, value in chosen],
        "o",
        markersize=9.5,
        color="none",
        markeredgecolor=style.VERMILLION,
        markeredgewidth=1.4,
        zorder=4,
    )
    style.logarithmic(ax)
    ax.minorticks_off()  # of so many powers of ten they are too close to tell apart, and most of the drawing
    ax.grid(False, axis="x")
    ax.set_xlim(-0.5, max(columns, style.FEWEST_COLUMNS) - 0.5)
    style.name_columns(ax, names, _INCHES / max(columns, style.FEWEST_COLUMNS))


def _legend(layers: tuple[LayerResult, ...]) -> list[object]:
    from matplotlib.lines import Line2D

    def dot(colour: str, edge: str, label: str, size: float, width: float) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            markersize=size,
            color=colour,
            markeredgecolor=edge,
            markeredgewidth=width,
            label=label,
        )

    widths = sorted({bits for layer in layers for bits in layer.sensitivity})
    handles: list[object] = [dot(style.BITS_COLOURS[bits], style.MUTED, f"{bits} bits", 5.5, 0.6) for bits in widths]
    return [*handles, dot("none", style.VERMILLION, "chosen", 9.5, 1.4)]
