"""Timings and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eqnet import RunError
from eqnet.bench.timing import Times
from eqnet.search.latency.timing import Timing, Timings

ONE, OTHER = Timing(10, 9, 12), Timing(7, 7, 7)


def test_quartiles_are_nanoseconds() -> None:
    timing = Timing.of(Times((4e-6, 1e-6, 2e-6, 3e-6, 100e-6)))
    assert timing == Timing(median=3000, low=2000, high=4000)
    assert timing.noise == 2000


def test_what_was_added_is_there_when_opened_again_and_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    first = Timings(path)
    assert first.get("a") is None
    assert not path.exists()
    first.add({"a": ONE})
    first.add({"a": OTHER, "b": OTHER})
    again = Timings(path)
    assert [again.get(key) for key in "abc"] == [ONE, OTHER, None]


def test_without_a_file_they_are_kept_in_memory() -> None:
    timings = Timings()
    timings.add({"a": ONE})
    assert timings.get("a") == ONE


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "\udcff",
        '{"version": 1}',
        '{"version": 1, "nanoseconds": []}',
        '{"version": 1, "nanoseconds": {"a": [1, 2]}}',
        '{"version": 1, "nanoseconds": {"a": [1.5, 1, 2]}}',
        '{"version": 1, "nanoseconds": {"a": [3, 1, 2]}}',
        '{"version": 1, "nanoseconds": {"a": [0, 0, 0]}}',
        '{"version": 1, "nanoseconds": {"a": [true, true, true]}}',
    ],
)
def test_a_damaged_file_is_refused_by_name_with_the_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "latency.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=r"latency\.json: .*remove it"):
        Timings(path)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({"version": 2, "nanoseconds": {}}))
    with pytest.raises(RunError, match="written by a newer eqnet"):
        Timings(path)
