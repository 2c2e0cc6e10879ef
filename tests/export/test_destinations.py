"""Where a packed model can go."""

from __future__ import annotations

import pytest

from eqnet.errors import InputError
from eqnet.export.destinations import DESTINATIONS, destination


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
