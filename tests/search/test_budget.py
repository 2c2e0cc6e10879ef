"""What the user writes as a budget."""

from __future__ import annotations

from fractions import Fraction

import pytest

from eqnet import BudgetError
from eqnet.search.budget import UNITS, Budget, parse_budgets

F = Fraction


@pytest.mark.parametrize(
    ("text", "metric", "limit"),
    [
        ("4bit", "code_bits", F(4)),
        ("3.5 bit", "code_bits", F(7, 2)),
        ("2BIT", "code_bits", F(2)),
        ("8bit", "code_bits", F(8)),
        ("4.25bpw", "bpw", F(17, 4)),
        ("0.1kB", "bytes", F(100)),
        ("12MB", "bytes", F(12_000_000)),
        ("12MiB", "bytes", F(12 * 1024 * 1024)),
        ("1.5GiB", "bytes", F(3 * 2**29)),
        ("700B", "bytes", F(700)),
        ("2GBOPs", "bops", F(2 * 10**9)),
        ("2gbops", "bops", F(2 * 10**9)),
        ("0.3TBOPs", "bops", F(3 * 10**11)),
        ("a4bit", "activation_bits", F(4)),
        (" 90%acc ", "accuracy", F(9, 10)),
        ("99.95%acc", "accuracy", F(1999, 2000)),
        (".1kB", "bytes", F(100)),
        ("+4bit", "code_bits", F(4)),
        ("5ms", "latency", F(1, 200)),
        ("300 us", "latency", F(3, 10_000)),
        ("300µs", "latency", F(3, 10_000)),
        ("300μs", "latency", F(3, 10_000)),
        ("0.5s", "latency", F(1, 2)),
    ],
)
def test_text_is_read_exactly(text: str, metric: str, limit: Fraction) -> None:
    budget = Budget.parse(text)
    assert (budget.metric, budget.limit) == (metric, limit)
    assert str(budget) == text.strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1bit", "bits are 2 to 8"),
        ("9bit", "bits are 2 to 8"),
        ("a1bit", "bits are 2 to 8"),
        ("8.01bit", "bits are 2 to 8"),
        ("1.9bpw", "2 bits or more"),
        ("0MB", "above zero"),
        ("-3MB", "above zero"),
        ("0%acc", "above 0 %"),
        ("101%acc", "at most 100 %"),
        ("4bits!", "did you mean '4bit'"),
        ("4bits", "did you mean '4bit'"),
        ("12mb", "unit"),
        ("4", "has no unit"),
        ("bit", "is not a budget"),
        ("", "is not a budget"),
        ("four bits", "is not a budget"),
        ("4e3B", "unit"),
        ("٤bit", "is not a budget"),
        ("nanbit", "is not a budget"),
        ("1" * 60 + "B", "is not a budget"),
        ("5MS", "did you mean '5ms'"),
        ("5 sec", "did you mean '5s'"),
        ("0us", "above zero"),
        ("5ns", "unit"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(text: str, message: str) -> None:
    with pytest.raises(BudgetError) as raised:
        Budget.parse(text)
    assert message in str(raised.value)
    assert text[:40] in str(raised.value)


def test_a_bound_is_kept_exactly() -> None:
    budget = Budget.parse("3.3bit")
    assert budget.met_by(Fraction(33, 10))
    assert not budget.met_by(Fraction(33, 10) + Fraction(1, 10**12))
    floor = Budget.parse("90%acc")
    assert floor.is_floor
    assert floor.met_by(0.9)
    assert not floor.met_by(0.8999)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.prefix + unit.suffix)
@pytest.mark.parametrize("value", [F(1, 3), F(2, 1), F(27, 7), F(10**9 + 1, 3)], ids=str)
def test_a_spelled_value_is_never_less_and_hardly_more(unit: object, value: Fraction) -> None:
    spelled = unit.spell(value)  # type: ignore[attr-defined]
    number = Fraction(spelled.removeprefix(unit.prefix).removesuffix(unit.suffix)) * unit.factor  # type: ignore[attr-defined]
    assert value <= number <= value * Fraction(1001, 1000)


def test_several_budgets_bound_different_things() -> None:
    assert [b.metric for b in parse_budgets(["4bit", "12MB", "a8bit"])] == ["code_bits", "bytes", "activation_bits"]
    with pytest.raises(BudgetError, match="'12MB' and '10MiB' are both of bytes"):
        parse_budgets(["12MB", "4bit", "10MiB"])
    assert len(parse_budgets([])) == 0
