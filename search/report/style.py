"""How every figure looks, and how it is written so that equal figures are equal files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eqnet.search.report.units import power_of_ten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0
"""Inches of a figure as wide as the page; half of them are set two to a row."""
FEWEST_COLUMNS = 5
"""Columns that a row of layers has room for at least, lest one layer fill the page."""

INK, MUTED, RULE, PAPER = "#1b1f24", "#59626d", "#dde1e6", "#ffffff"
BLUE, VERMILLION, GREEN, AMBER, DOT = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#9aa4b0"
THEMED = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "panel"} | {
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    AMBER: "amber",
    DOT: "dot",
}
"""Colours that the page replaces with its own variables, so that it can be light or dark. The hues are Okabe's and
Ito's, which people with any colour vision can tell apart."""

BITS_COLOURS = {
    2: "#00224e",
    3: "#2a3f6d",
    4: "#575d6d",
    5: "#7d7c78",
    6: "#a59c74",
    7: "#d2c060",
    8: "#fee838",
}
"""One colour a width, from matplotlib's cividis: ordered in lightness, also in print and for the colour-blind."""

_LIGHT_TEXT, _DARK_TEXT = "#fefefe", "#101215"

_RC: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 8.5,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.edgecolor": RULE,
    "legend.facecolor": PAPER,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.4,
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "svg.hashsalt": "eqnet",
    "text.color": INK,
    "text.parse_math": False,  # a layer's name may hold a dollar sign
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def styled() -> Any:
    """A context in which figures are made and written in this style; the user's own settings play no part."""
    import matplotlib as mpl

    # Those left out say where matplotlib draws and looks for files, not what a figure looks like.
    kept = ("backend", "date", "interactive", "savefig.directory", "timezone", "toolbar", "webagg")
    every: Any = mpl.rcParamsDefault
    return mpl.rc_context({key: every[key] for key in every if not key.startswith(kept)} | _RC)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches; matplotlib's pyplot never hears of it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write(figure: Figure, extension: str) -> bytes:
    """The figure as a ``png`` or ``svg`` file: no date, no version, equal bytes for equal figures."""
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[extension]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A layer's name may have letters that the font lacks; they come out as boxes in the PNG alone.
        warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
        figure.savefig(buffer, format=extension, dpi=160, metadata=metadata)
    figure.set_layout_engine(None)  # everything has its place now; the next file need not look for it again
    return buffer.getvalue()


def on_colour(bits: int) -> str:
    """A text colour that can be read on ``BITS_COLOURS[bits]``."""
    return _LIGHT_TEXT if bits <= 4 else _DARK_TEXT


def bands(count: int, most: int) -> list[range]:
    """Cuts ``count`` columns into rows of at most ``most``, as even as can be."""
    rows = -(-count // most)
    width = -(-count // rows)
    return [range(start, min(start + width, count)) for start in range(0, count, width)]


def name_columns(ax: Axes, names: Sequence[str], inches: float) -> None:
    """Writes a name under each column of ``inches``; upright where they would not fit side by side."""
    upright = max(map(len, names)) * 0.078 > inches
    ax.set_xticks(range(len(names)), list(names), rotation=90 if upright else 0, fontsize=7.5)
    ax.tick_params(axis="x", length=0)


def logarithmic(ax: Axes) -> None:
    """Makes the y axis logarithmic, with powers of ten as text: what matplotlib writes by itself is a formula."""
    from matplotlib.ticker import NullFormatter

    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: power_of_ten(value))
    ax.yaxis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """One legend under everything else, where it hides nothing."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=8, handletextpad=0.5)
