"""How the scores of networks are written and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from eqnet.search.report.units import ABSENT, percent, points


@dataclass(frozen=True)
class ScoreText:
    """The words for one kind of score.

    Attributes:
        name: in the middle of a sentence.
        text: a value for people.
        precise: the same with a digit more, for tables on a terminal.
        difference: of a value from another one, signed.
        with_divergence: whether the divergence of networks is told beside it, and their stored bits per weight; else
            the widths of codes and the bit operations are.
    """

    name: str
    text: Callable[[float | None], str]
    precise: Callable[[float], str]
    difference: Callable[[float | None, float | None], str]
    with_divergence: bool


def _plain(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}" if value < 1000 else f"{value:.3g}"


def _ratio(value: float | None, reference: float | None) -> str:
    if value is None or reference is None:
        return ABSENT
    number = f"{100 * (value / reference - 1):+.1f}".replace("-", "−")
    return f"{'0.0' if number[1:] == '0.0' else number}\N{NO-BREAK SPACE}%"


SCORE_TEXTS: Mapping[str, ScoreText] = MappingProxyType(
    {
        "accuracy": ScoreText("accuracy", percent, lambda v: f"{100 * v:.2f} %", points, with_divergence=False),
        "perplexity": ScoreText("perplexity", _plain, lambda v: f"{v:.3f}", _ratio, with_divergence=True),
    }
)
"""By the key of the score in ``result.json``; to add one is to add a row."""
