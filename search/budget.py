"""What a network may cost at most, and how accurate it has to be at least, as the user writes it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from eqnet.errors import BudgetError
from eqnet.formats import MAX_BITS, MIN_BITS

_TEXT = re.compile(r"(?P<prefix>[A-Za-z]?)(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))\s*(?P<suffix>\D*)", re.ASCII)
_MAX_LENGTH = 40
"""Longest text that is read; longer numbers than fit in it are slips, and slow to read."""

ACCURACY_TOLERANCE = 1e-6
"""Accuracies are means that were summed in single precision; one sample in a million weighs this much."""


METRICS: Mapping[str, str] = {
    "code_bits": "code bits per weight",
    "bpw": "stored bits per weight",
    "bytes": "bytes",
    "bops": "bit operations",
    "activation_bits": "bits per activation",
    "latency": "latency",
    "accuracy": "accuracy",
}
"""What can be bounded: attributes of ``Cost``, and the accuracy; each with what it counts."""


@dataclass(frozen=True)
class Unit:
    """What the letters of a budget mean.

    Attributes:
        prefix, suffix: the letters before and after the number.
        metric: what is bounded: an attribute of ``Cost``, or ``accuracy``.
        factor: of the number to the unit of the metric.
        meaning: for people.
        low, high: the numbers that make sense; 0 as ``low`` is itself left out, None as ``high`` is no bound.
        reason: why these; ends the message about a number outside.
        floor: whether the budget is a lower bound.
        any_case: whether capitals and small letters are one.
    """

    prefix: str
    suffix: str
    metric: str
    factor: Fraction
    meaning: str
    low: int = 0
    high: int | None = None
    reason: str = "it has to be above zero"
    floor: bool = False
    any_case: bool = True

    def admits(self, number: Fraction) -> bool:
        """Whether a budget of so many units makes sense."""
        return (number >= self.low if self.low else number > 0) and (self.high is None or number <= self.high)

    def spell(self, value: Fraction) -> str:
        """The text of a budget of at least ``value``, given in the unit of the metric: rounded up, never down.

        Four significant digits, and two after the point at least, so that the text stays short and near.
        """
        number = value / self.factor
        digits = 2
        while 0 < number < Fraction(1000, 10**digits):
            digits += 1
        shifted = -(-number.numerator * 10**digits // number.denominator)
        whole, part = divmod(shifted, 10**digits)
        decimals = f"{part:0{digits}d}".rstrip("0")
        return f"{self.prefix}{whole}{'.' + decimals if decimals else ''}{self.suffix}"


_BITS = f"bits are {MIN_BITS} to {MAX_BITS}"


def _bytes(suffix: str, factor: int, meaning: str) -> Unit:
    # b is the symbol of the bit, and k, M and G are not K, m and g: capitals matter.
    return Unit("", suffix, "bytes", Fraction(factor), meaning, any_case=False)


def _operations(suffix: str, factor: int, meaning: str) -> Unit:
    return Unit("", suffix, "bops", Fraction(factor), meaning)


def _time(suffix: str, parts: int, meaning: str) -> Unit:
    # m and M differ by a factor of 10^9, and S is the symbol of another unit.
    return Unit("", suffix, "latency", Fraction(1, parts), f"{meaning} for one input", any_case=False)


UNITS: tuple[Unit, ...] = (
    Unit("", "bit", "code_bits", Fraction(1), "mean code bits per weight", MIN_BITS, MAX_BITS, _BITS),
    Unit(
        "",
        "bpw",
        "bpw",
        Fraction(1),
        "stored bits per weight, scales and zero points in",
        MIN_BITS,
        reason=f"the codes alone take {MIN_BITS} bits or more",
    ),
    _bytes("B", 1, "bytes"),
    _bytes("kB", 10**3, "kilobytes of 1000 bytes"),
    _bytes("MB", 10**6, "megabytes of 1000 kB"),
    _bytes("GB", 10**9, "gigabytes of 1000 MB"),
    _bytes("KiB", 2**10, "kibibytes of 1024 bytes"),
    _bytes("MiB", 2**20, "mebibytes of 1024 KiB"),
    _bytes("GiB", 2**30, "gibibytes of 1024 MiB"),
    _operations("BOPs", 1, "bit operations"),
    _operations("kBOPs", 10**3, "thousand bit operations"),
    _operations("MBOPs", 10**6, "million bit operations"),
    _operations("GBOPs", 10**9, "billion bit operations"),
    _operations("TBOPs", 10**12, "trillion bit operations"),
    _time("s", 1, "seconds"),
    _time("ms", 10**3, "milliseconds"),
    _time("us", 10**6, "microseconds"),
    Unit("a", "bit", "activation_bits", Fraction(1), "mean bits per activation", MIN_BITS, MAX_BITS, _BITS),
    Unit(
        "",
        "%acc",
        "accuracy",
        Fraction(1, 100),
        "validation accuracy at least",
        high=100,
        reason="an accuracy is above 0 % and at most 100 %",
        floor=True,
    ),
)
"""Every unit; to add one is to add a row."""

_MICRO = str.maketrans("\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}", "uu")
"""Both of the signs that keyboards have for u."""

_LISTED = ", ".join(f"{unit.prefix}4{unit.suffix}" if unit.suffix != "%acc" else "90%acc" for unit in UNITS)
_EXAMPLES = "4bit, 4.25bpw, 12MB, 2GBOPs, 5ms, a4bit or 90%acc"


@dataclass(frozen=True)
class Budget:
    """One bound.

    Attributes:
        text: as it was given, without blanks around it.
        unit: what its letters mean.
        limit: in the unit of the metric: bits, bytes, bit operations or seconds at most; a fraction, at least, for
            accuracy.
    """

    text: str
    unit: Unit
    limit: Fraction

    @property
    def metric(self) -> str:
        """What is bounded: an attribute of ``Cost``, or ``accuracy``."""
        return self.unit.metric

    @property
    def is_floor(self) -> bool:
        """Whether it bounds from below what only a measurement tells; the others bound a cost from above."""
        return self.unit.floor

    def met_by(self, value: Fraction | float) -> bool:
        """Whether ``value``, in the unit of the metric, keeps to the budget."""
        if self.is_floor:
            return value >= float(self.limit) - ACCURACY_TOLERANCE
        return value <= self.limit

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads a number and a unit; decimals are read exactly.

        Raises:
            BudgetError: the text is no budget, its unit is unknown, or its number is out of range.

        >>> Budget.parse("3.5bit").limit
        Fraction(7, 2)
        """
        text = text.strip()
        match = _TEXT.fullmatch(text) if len(text) <= _MAX_LENGTH else None
        if match is None:
            raise BudgetError(f"'{text[:_MAX_LENGTH]}' is not a budget; write a number and a unit, such as {_EXAMPLES}")
        unit = _unit(text, match["prefix"], match["suffix"])
        number = Fraction(match["number"])
        if not unit.admits(number):
            raise BudgetError(f"budget '{text}' ({unit.meaning}): {unit.reason}; write one such as {_EXAMPLES}")
        return cls(text, unit, number * unit.factor)


def parse_budgets(texts: Iterable[str]) -> tuple[Budget, ...]:
    """Reads several budgets, which all have to be met.

    Raises:
        BudgetError: one cannot be read, or two of them bound the same.
    """
    found: dict[str, Budget] = {}
    for text in texts:
        budget = Budget.parse(text)
        other = found.setdefault(budget.metric, budget)
        if other is not budget:
            raise BudgetError(
                f"the budgets '{other}' and '{budget}' are both of {METRICS[budget.metric]}; give one of them"
            )
    return tuple(found.values())


def _unit(text: str, prefix: str, suffix: str) -> Unit:
    for unit in UNITS:
        given, known = (prefix + suffix).translate(_MICRO), unit.prefix + unit.suffix
        if bool(prefix) == bool(unit.prefix) and (
            given == known or (unit.any_case and given.casefold() == known.casefold())
        ):
            return unit
    if not suffix and not prefix:
        raise BudgetError(f"budget '{text}' has no unit; write {_EXAMPLES}")
    near = difflib.get_close_matches(suffix.casefold(), [unit.suffix.casefold() for unit in UNITS], n=1, cutoff=0.5)
    meant = next((unit for unit in UNITS if near and unit.suffix.casefold() == near[0]), None)
    number = text[len(prefix) : len(text) - len(suffix)].strip()
    hint = f"did you mean '{number}{meant.suffix}'? The" if meant is not None else "the"
    raise BudgetError(f"budget '{text}' has an unknown unit; {hint} units are those of {_LISTED}")
