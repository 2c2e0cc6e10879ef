"""The figures of a report: one file a figure, one row a figure in ``FIGURES``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eqnet.search.report.figures.bits import draw_bits
from eqnet.search.report.figures.blocks import draw_blocks
from eqnet.search.report.figures.convergence import draw_convergence
from eqnet.search.report.figures.divergence import draw_divergence
from eqnet.search.report.figures.front import draw_front
from eqnet.search.report.figures.predictor import draw_predictor
from eqnet.search.report.figures.sensitivity import draw_sensitivity
from eqnet.search.report.figures.sizes import draw_sizes
from eqnet.search.result import ReportData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "FigureKind"]


@dataclass(frozen=True)
class FigureKind:
    """One figure of a report.

    Attributes:
        name: of its files.
        title: its heading.
        caption: how to read it.
        draw: makes it; None if the data has nothing to draw.
        half: whether two of its kind share a row.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[ReportData], Figure | None]
    half: bool = False


FIGURES = (
    FigureKind(
        "front",
        "Accuracy against cost",
        "Validation accuracy of measured subnets. Triangles at the lower edge mark networks that lie below it.",
        draw_front,
    ),
    FigureKind(
        "divergence",
        "Divergence against cost",
        "Divergence of measured subnets from the model in floating point, in nats a token (logarithmic); lower is "
        "better.",
        draw_divergence,
    ),
    FigureKind(
        "blocks",
        "Where the bits went",
        "Width of the codes of each layer's weight, by block and by place in the block; below, the mean over the "
        "weights of each block.",
        draw_blocks,
    ),
    FigureKind(
        "bits",
        "Bits of each layer",
        "Width of the codes of each layer's weight and input activation, in the order in which the layers run; "
        "an empty cell stays in floating point.",
        draw_bits,
    ),
    FigureKind(
        "sensitivity",
        "Sensitivity of each layer",
        "What the weights of each layer add to the divergence at each width (logarithmic), by the additive model. "
        "The ring marks the width that the layer was given.",
        draw_sensitivity,
    ),
    FigureKind(
        "predictor",
        "Predictor",
        "Predictions against measurements of subnets that the predictor has not seen; on the line they agree.",
        draw_predictor,
        half=True,
    ),
    FigureKind(
        "convergence",
        "Convergence of the search",
        "Best predicted quality so far of each round; lower is better. Every round refits the predictor.",
        draw_convergence,
        half=True,
    ),
    FigureKind(
        "sizes",
        "Size",
        "What each network stores, in bytes.",
        draw_sizes,
    ),
)
"""Every figure, in the order of the page."""
