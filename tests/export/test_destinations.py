"""Where a packed model can go."""

from __future__ import annotations

from pathlib import Path

import pytest

from eqnet.errors import InputError, RunError
from eqnet.export.destinations import DESTINATIONS, Destination, destination

BY_NAME = pytest.mark.parametrize("row", DESTINATIONS.values(), ids=DESTINATIONS)


def test_every_destination_is_found_by_its_name_and_has_a_title() -> None:
    assert "eqnet" in DESTINATIONS
    for name, row in DESTINATIONS.items():
        assert destination(name) is row
        assert row.name == name
        assert row.title


def test_unknown_destination_lists_those_that_there_are() -> None:
    with pytest.raises(InputError, match="--to eqnett: there is no such destination; did you mean eqnet"):
        destination("eqnett")
    with pytest.raises(InputError, match="there are: eqnet"):
        destination("")


@BY_NAME
def test_a_place_that_cannot_be_is_refused_before_any_work(row: Destination, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    places = [tmp_path / "file" / f"out{row.suffix or ''}"]
    if row.suffix is None:
        places.append(tmp_path / "file")
    for place in places:
        with pytest.raises(RunError, match=f"{place}|{place.parent}"):
            row.check(place, {})
    assert (tmp_path / "file").read_text() == "kept"


@BY_NAME
def test_looking_at_a_place_makes_nothing(row: Destination, tmp_path: Path) -> None:
    row.check(tmp_path / "new" / f"out{row.suffix or ''}", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["eqnet", "compressed-tensors"])
def test_a_folder_of_something_else_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_text("meow")
    with pytest.raises(RunError, match=r"cat\.jpg"):
        destination(name).check(tmp_path, {})
