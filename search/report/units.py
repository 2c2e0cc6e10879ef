"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SPACE = "\N{NO-BREAK SPACE}"
ABSENT = "–"
"""Stands where there is no value."""


@dataclass(frozen=True)
class Metric:
    """How a cost is written.

    Attributes:
        label: of an axis, without the unit.
        unit: symbol; empty for a plain number.
        prefixed: whether the unit takes k, M, G or T, and m, µ or n.
        digits: after the point, of a value without prefix.
    """

    label: str
    unit: str
    prefixed: bool = False
    digits: int = 2

    def text(self, value: float | None) -> str:
        """The value with its unit, e.g. ``31.2 kB``."""
        if value is None:
            return ABSENT
        if not self.prefixed:
            return f"{value:.{self.digits}f}{_SPACE}{self.unit}".rstrip(_SPACE)
        return prefixed(value, self.unit)


METRICS: dict[str, Metric] = {
    "code_bits": Metric("Mean code bits per weight", "bit"),
    "bpw": Metric("Stored bits per weight, scales and zero points in", "bpw"),
    "bytes": Metric("Size of the artifact", "B", prefixed=True),
    "bops": Metric("Bit operations per sample", "BOP", prefixed=True),
    "activation_bits": Metric("Mean activation bits", "bit"),
    "latency": Metric("Latency for one input", "s", prefixed=True),
}
"""The costs that a report can draw, by their name in ``Cost``."""


def prefix(value: float) -> tuple[float, str]:
    """The factor and the symbol of the prefix that suits ``value``."""
    return next(((factor, symbol) for factor, symbol in _PREFIXES if abs(value) >= factor), (1.0, ""))


def prefixed(value: float, unit: str) -> str:
    """Three digits or so, with a prefix: ``31.2 kB``; none after the point of a whole number without prefix."""
    factor, symbol = prefix(value)
    number = value / factor
    digits = 0 if (not symbol and number == round(number)) or abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:.{digits}f}{_SPACE}{symbol}{unit}"


def percent(value: float | None) -> str:
    """A fraction as a percentage with one digit: ``96.4 %``."""
    return ABSENT if value is None else f"{100 * value:.1f}{_SPACE}%"


def points(value: float | None, reference: float | None) -> str:
    """The difference of two fractions in points, signed; -0.04 counts as none."""
    if value is None or reference is None:
        return ABSENT
    number = f"{100 * (value - reference):+.1f}".replace("-", "−")
    return f"{'0.0' if number[1:] == '0.0' else number}{_SPACE}points"


def duration(seconds: float) -> str:
    """Seconds up to two minutes, minutes up to two hours, then hours."""
    if seconds < 120:
        return f"{seconds:.1f}{_SPACE}s"
    return f"{seconds / 60:.1f}{_SPACE}min" if seconds < 7200 else f"{seconds / 3600:.1f}{_SPACE}h"


def small(value: float | None) -> str:
    """Three significant digits: ``0.0123``, ``4.56e-07``."""
    return ABSENT if value is None else f"{value:.3g}".replace("-", "−")


def power_of_ten(value: float) -> str:
    """A tick of a logarithmic axis: ``10⁻³`` for a power of ten, else nothing."""
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-6:
        return ""
    return "10" + str(round(exponent)).translate(_SUPERSCRIPTS)


def shown(name: str) -> str:
    """A name on one line, with what cannot be printed replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def shortened(names: Sequence[str], length: int) -> list[str]:
    """Dotted names in at most ``length`` letters each, still different from one another.

    If one is too long, the leading parts that all share are cut to their first letter; where that is not enough, so
    are the next ones, for the last parts and the numbers tell layers apart; and then the middle is left out.

    >>> shortened(["encoder.layers.9.attention.output", "encoder.layers.10.dense"], 24)
    ['e.l.9.attention.output', 'e.l.10.dense']
    """
    split = [shown(name).split(".") for name in names]
    if max(len(".".join(parts)) for parts in split) > length:
        # Sorting puts the two names that share least at the ends.
        first, last = min(split), max(split)
        pairs = zip(first[:-1], last[:-1], strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        split = [_cut(parts, common, length) for parts in split]
    texts = [".".join(parts) for parts in split]
    head = (length - 1) // 3
    texts = [text if len(text) <= length else f"{text[:head]}…{text[head + 1 - length :]}" for text in texts]
    ends = [f" #{i + 1}" if texts.count(text) > 1 else "" for i, text in enumerate(texts)]
    return [text[: length - len(end)] + end for text, end in zip(texts, ends, strict=True)]


def _cut(parts: Sequence[str], common: int, length: int) -> list[str]:
    """Cuts the first ``common`` parts, and further ones but the last until ``length`` is kept."""
    cut = list(parts)
    for i, part in enumerate(parts[:-1]):
        if i >= common and len(".".join(cut)) <= length:
            break
        cut[i] = part if part.isdigit() else part[:1]
    return cut
