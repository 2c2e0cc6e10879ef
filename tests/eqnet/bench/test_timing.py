"""Timing calls in turn."""

from __future__ import annotations

import time

from eqnet.bench.timing import LEAST, Times, in_turn


def test_calls_take_turns_after_one_that_warms_up() -> None:
    order = ""

    def call(letter: str) -> None:
        nonlocal order
        order += letter

    a, b = in_turn([lambda: call("a"), lambda: call("b")], 0)
    assert order == "ab" * (LEAST + 1)
    assert len(a.seconds) == len(b.seconds) == LEAST


def test_short_calls_are_repeated_to_fill_their_block_and_timed_one_by_one() -> None:
    short, long = in_turn([lambda: time.sleep(0.001), lambda: time.sleep(0.01)], 0, block=0.01)
    assert len(long.seconds) == LEAST
    assert LEAST < len(short.seconds) <= 10 * LEAST
    assert 0.001 <= short.best <= short.median
    assert long.best >= 0.01


def test_goes_on_for_the_seconds_that_are_given() -> None:
    start = time.perf_counter()
    (times,) = in_turn([lambda: time.sleep(0.001)], 0.05)
    assert time.perf_counter() - start >= 0.05
    assert len(times.seconds) > LEAST


def test_percentiles_of_known_times() -> None:
    times = Times(tuple(range(101)))
    assert [times.percentile(share) for share in (50, 90, 99)] == [50, 90, 99]
    assert (times.median, times.mean, times.best) == (50, 50, 0)
    assert Times((4.0,)).percentile(99) == 4
