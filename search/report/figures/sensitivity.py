"""How much each layer disturbs the outputs, at every width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eqnet.search.report import style
from eqnet.search.report.figures.blocks import blocks_of, by_block, outside
from eqnet.search.report.units import shortened
from eqnet.search.result import LayerResult, ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 30
_NAME = 32
_INCHES = 8.0
_BAND = 1.8
"""Inches of a band of columns, without the names below it."""


@dataclass(frozen=True)
class _Band:
    """Layers side by side, one column each.

    Attributes:
        layers: in the order of the columns.
        names: of the columns.
        title: of all of them; may be empty.
    """

    layers: Sequence[LayerResult]
    names: Sequence[str]
    title: str = ""

    @property
    def inches(self) -> float:
        return _BAND + min(max(map(len, self.names)) * 0.06, 1.6) + (0.2 if self.title else 0.0)


def draw_sensitivity(data: ReportData) -> Figure | None:
    """One column a layer, one dot a width; dots, because bars have no honest foot on a logarithmic axis.

    Of a network of many like blocks there is one row of blocks for each place in them.
    """
    layers = data.result.layers
    values = [value for layer in layers for value in layer.sensitivity.values() if value > 0]
    if not values:
        return None
    bands = [band for band in _bands(layers) if any(layer.sensitivity for layer in band.layers)]
    columns = max(len(band.layers) for band in bands)
    heights = [band.inches for band in bands]
    figure = style.new_figure(style.WIDTH, sum(heights) + 0.4)
    axes = figure.subplots(len(bands), squeeze=False, sharey=True, height_ratios=heights)[:, 0]
    for ax, band in zip(axes, bands, strict=True):
        _draw_band(ax, band.layers, band.names, columns)
        ax.set_title(band.title, fontsize=8.5, loc="left", color=style.MUTED)
        ax.set_ylim(min(values) / 2, max(values) * 2)
        ax.set_ylabel(data.result.quality.name.capitalize())
    style.legend_below(figure, _legend(layers), 8)
    return figure


def _bands(layers: Sequence[LayerResult]) -> list[_Band]:
    places = by_block(layers)
    if not places or len(blocks_of(places)) > 2 * _COLUMNS:
        return _in_order(layers)
    # Layers that always have one format together say the same, and say it once.
    alike: dict[tuple[object, ...], list[str]] = {}
    for place, row in places.items():
        said = tuple((block, str(row[block].weight_format), *row[block].sensitivity.items()) for block in sorted(row))
        alike.setdefault(said, []).append(place)
    found = _in_order(outside(layers, places))
    for group in alike.values():
        row = places[group[0]]
        blocks = sorted(row)
        title = ", ".join(shortened(group, _NAME))
        found.append(_Band([row[block] for block in blocks], [str(block) for block in blocks], title))
    return found


def _in_order(layers: Sequence[LayerResult]) -> list[_Band]:
    """The layers as they run, in rows that are as even as can be."""
    if not layers:
        return []
    names = shortened([layer.name for layer in layers], _NAME)
    ranges = style.bands(len(layers), _COLUMNS)
    return [_Band([layers[i] for i in columns], [names[i] for i in columns]) for columns in ranges]


def _draw_band(ax: Axes, layers: Sequence[LayerResult], names: Sequence[str], columns: int) -> None:
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
