"""What eqnet's mixes of a language model are to reach, each bar as a rule over the figures of one run."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from language_mixes import Mix
from language_subjects import Figures

SMALL = 4.25
"""Stored bits per weight at which a mix is to be nearly as good as the model in floating point, or as LARGER."""

LARGER = "llama.cpp Q4_0"
"""The file that a mix of SMALL bits is compared with."""

NEARLY = 1.01
"""Perplexity over that of the model in floating point, at SMALL bits, where the weights are the model's own."""

TAU = 0.9
"""Kendall's, of networks that the predictor had not seen."""

MEASURED = 200
"""Networks at most that the predictor learns from in the first search."""

WHOLE, AGAIN = 20 * 60, 30
"""Seconds of a search from nothing, and of one for another budget."""

SAME = 1e-6
"""Bits per weight by which two networks of the same size may differ, as budgets are rounded down."""

_RULES: Mapping[str, Callable[[float, float], bool]] = {"≤": operator.le, "<": operator.lt, "≥": operator.ge}


@dataclass(frozen=True)
class Bar:
    """One figure beside what it is to be.

    Attributes:
        what: is compared.
        figure: of eqnet.
        rule: ≤, < or ≥.
        limit: on its other side.
    """

    what: str
    figure: float
    rule: str
    limit: float

    @property
    def met(self) -> bool:
        return _RULES[self.rule](self.figure, self.limit)

    def row(self) -> dict[str, object]:
        """The bar as a line of the table."""
        return {
            "bar": self.what,
            "eqnet": self.figure,
            "limit": f"{self.rule} {self.limit:.4g}",
            "met": "yes" if self.met else "NO",
        }


@dataclass(frozen=True)
class Measured:
    """All figures of one model.

    Attributes:
        model: its name.
        exact: of the model in floating point.
        peers: of llama.cpp's kinds of files, by name.
        uniform: of eqnet's networks of one format, by name.
        mixes: what was found, the first search's first.
    """

    model: str
    exact: Figures
    peers: Mapping[str, Figures]
    uniform: Mapping[str, Figures]
    mixes: Sequence[Mix]

    def best(self, bpw: float, quality: str = "perplexity") -> Figures | None:
        """The mix of no more bits that is best in one of the figures."""
        small_enough = [mix.figures for mix in self.mixes if mix.figures.bpw <= bpw + SAME]
        return min(small_enough, key=operator.attrgetter(quality), default=None)


def bars(measured: Measured) -> Iterator[Bar]:
    """Every bar of one model.

    Perplexities of two good forms differ by chance, too: an error may happen to suit a text that the model does not
    know well. Divergences tell such forms apart, and so are compared as well.
    """
    for quality in ("perplexity", "divergence"):
        for rule, others in (("≤", measured.peers), ("<", measured.uniform)):
            for other, figures in others.items():
                if best := measured.best(figures.bpw, quality):
                    what = f"{quality} at {best.bpw:.2f} bpw, against {other} at {figures.bpw:.2f}"
                    yield Bar(what, getattr(best, quality), rule, getattr(figures, quality))
    yield from _small(measured)
    yield from _searches(measured.mixes)


def _small(measured: Measured) -> Iterator[Bar]:
    """At SMALL bits: as good as a larger file, or as the model in floating point where its weights are its own."""
    best, larger = measured.best(SMALL), measured.peers.get(LARGER)
    if best and measured.model == "smollm2" and larger:
        what = f"perplexity at {best.bpw:.2f} bpw, against {LARGER} at {larger.bpw:.2f}"
        yield Bar(what, best.perplexity, "≤", larger.perplexity)
    if best and measured.model == "byte":
        what = f"perplexity at {best.bpw:.2f} bpw, over that in floating point"
        yield Bar(what, best.perplexity / measured.exact.perplexity, "≤", NEARLY)


def _searches(mixes: Sequence[Mix]) -> Iterator[Bar]:
    """How well and how fast the searches went."""
    for mix in mixes[:1]:
        yield Bar(f"Kendall's tau of CQAP, {mix.measured} measured", mix.tau, "≥", TAU)
    for mix in mixes:
        what = "from nothing" if mix.whole else "for another budget"
        yield Bar(
            f"seconds of the search {what}, {mix.budget:.2f} bpw", mix.seconds, "≤", WHOLE if mix.whole else AGAIN
        )
