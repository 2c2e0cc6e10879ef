"""The width of every layer's codes, as a heat map of two rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eqnet.formats import Format
from eqnet.search.report import style
from eqnet.search.report.figures.blocks import by_block
from eqnet.search.report.units import shortened
from eqnet.search.result import LayerResult, ReportData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 30
"""Layers side by side; more are drawn in further bands, so that 60 are as legible as 5."""
_NAME = 32
"""Letters of a layer's name."""
_INCHES = 7.6
"""Of the columns; the rest of the width is labels."""


def draw_bits(data: ReportData) -> Figure | None:
    """One column a layer, one row for weights and one for activations.

    None where there are no activation formats and ``draw_blocks`` shows the weights.
    """
    layers = data.result.layers
    if by_block(layers) and all(layer.activation_format is None for layer in layers):
        return None
    ranges = style.bands(len(layers), _COLUMNS)
    names = shortened([layer.name for layer in layers], _NAME)
    letters = max(map(len, names))
    figure = style.new_figure(style.WIDTH, len(ranges) * (0.85 + min(letters * 0.078, 2.2)) + 0.4)
    for ax, columns in zip(figure.subplots(len(ranges), squeeze=False)[:, 0], ranges, strict=True):
        _draw_band(ax, [layers[i] for i in columns], [names[i] for i in columns], len(ranges[0]))
    style.legend_below(figure, _legend(layers), 8)
    return figure


def _draw_band(ax: Axes, layers: list[LayerResult], names: list[str], columns: int) -> None:
    from matplotlib.patches import Rectangle

    for x, layer in enumerate(layers):
        for y, fmt in enumerate((layer.weight_format, layer.activation_format)):
            colour = style.BITS_COLOURS[fmt.bits] if fmt is not None else style.PAPER
            ax.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=colour, edgecolor=style.RULE, lw=0.6))
            if fmt is not None:
                ax.text(
                    x, y, str(fmt.bits), ha="center", va="center_baseline", fontsize=8, color=style.on_colour(fmt.bits)
                )
    # Every band has the first one's number of columns, so that cells have one size; a few layers are kept slim.
    ax.set_xlim(-0.5, max(columns, style.FEWEST_COLUMNS) - 0.5)
    ax.set_ylim(1.5, -0.5)
    ax.set_yticks([0, 1], ["weight", "activation"])
    ax.tick_params(axis="y", length=0)
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    style.name_columns(ax, names, _INCHES / max(columns, style.FEWEST_COLUMNS))


def _legend(layers: tuple[LayerResult, ...]) -> list[object]:
    from matplotlib.patches import Patch

    formats: list[Format | None] = [f for layer in layers for f in (layer.weight_format, layer.activation_format)]
    widths = sorted({fmt.bits for fmt in formats if fmt is not None})
    handles: list[object] = [
        Patch(facecolor=style.BITS_COLOURS[bits], edgecolor=style.RULE, label=f"{bits} bits") for bits in widths
    ]
    if None in formats:
        handles.append(Patch(facecolor=style.PAPER, edgecolor=style.MUTED, label="float"))
    return handles
