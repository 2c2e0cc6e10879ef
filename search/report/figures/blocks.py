"""Where the bits went in a network of many like blocks: a map of blocks and places in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eqnet.search.report import style
from eqnet.search.report.units import shortened
from eqnet.search.result import LayerResult, ReportData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_BLOCKS = 4
"""Of fewer, one column a layer tells more."""
_NUMBERED = re.compile(r"(?P<list>.*?)\.(?P<block>\d+)\.(?P<place>.+)")
_NAME = 24


Places = Mapping[str, Mapping[int, LayerResult]]
"""Layers by place in their block and number of the block."""


def by_block(layers: Sequence[LayerResult]) -> Places:
    """The layers of the largest list of blocks, by place in the block and number of the block.

    Empty if there are fewer than ``FEWEST_BLOCKS`` of them.
    """
    lists: dict[str, dict[str, dict[int, LayerResult]]] = {}
    for layer in layers:
        match = _NUMBERED.fullmatch(layer.name)
        if match is not None:
            lists.setdefault(match["list"], {}).setdefault(match["place"], {})[int(match["block"])] = layer
    largest = max(lists.values(), key=lambda places: sum(map(len, places.values())), default={})
    return largest if len(blocks_of(largest)) >= FEWEST_BLOCKS else {}


def blocks_of(places: Places) -> list[int]:
    """The numbers of all blocks, in order."""
    return sorted({block for row in places.values() for block in row})


def outside(layers: Sequence[LayerResult], places: Places) -> list[LayerResult]:
    """The layers that are in no block, as they run."""
    inside = {layer.name for row in places.values() for layer in row.values()}
    return [layer for layer in layers if layer.name not in inside]


def draw_blocks(data: ReportData) -> Figure | None:
    """One column a block, one row a place, and the mean widths below; other layers are named in the title."""
    places = by_block(data.result.layers)
    if not places:
        return None
    from matplotlib.patches import Patch, Rectangle

    blocks = blocks_of(places)
    column = {block: x for x, block in enumerate(blocks)}
    others = outside(data.result.layers, places)
    figure = style.new_figure(style.WIDTH, 0.3 * len(places) + 2.6)
    top, below = figure.subplots(2, 1, height_ratios=[0.3 * len(places), 1.1], sharex=True)
    for y, row in enumerate(places.values()):
        for block, layer in row.items():
            bits = layer.weight_format.bits
            look: dict[str, Any] = {"facecolor": style.BITS_COLOURS[bits], "edgecolor": style.RULE, "lw": 0.5}
            top.add_patch(Rectangle((column[block] - 0.48, y - 0.46), 0.96, 0.92, **look))
            if len(blocks) <= 40:
                middle: dict[str, Any] = {
                    "ha": "center",
                    "va": "center_baseline",
                    "fontsize": 7.5,
                    "color": style.on_colour(bits),
                }
                top.text(column[block], y, str(bits), **middle)
    top.set_ylim(len(places) - 0.5, -0.5)
    top.set_yticks(range(len(places)), shortened(list(places), _NAME))
    top.tick_params(axis="both", length=0)
    top.grid(False)
    if others:
        told = [f"{shortened([layer.name], _NAME)[0]}: {layer.weight_format.bits} bits" for layer in others[:4]]
        top.set_title(", ".join(told), fontsize=8.5, loc="left", color=style.MUTED)
    below.bar(range(len(blocks)), [_mean_bits(places, block) for block in blocks], 0.9, color=style.BLUE)
    below.set_ylabel("Mean bits")
    below.set_xlabel("Block")
    step = max(1, len(blocks) // 16)
    below.set_xticks(range(0, len(blocks), step), [str(block) for block in blocks[::step]])
    below.set_xlim(-0.6, len(blocks) - 0.4)
    widths = sorted({layer.weight_format.bits for row in places.values() for layer in row.values()})
    patches: list[object] = [
        Patch(facecolor=style.BITS_COLOURS[bits], edgecolor=style.RULE, label=f"{bits} bits") for bits in widths
    ]
    style.legend_below(figure, patches, 8)
    return figure


def _mean_bits(places: Places, block: int) -> float:
    layers = [row[block] for row in places.values() if block in row]
    return float(np.average([lay.weight_format.bits for lay in layers], weights=[lay.weights for lay in layers]))
