"""Which targets can be timed from the command line."""

from __future__ import annotations

from eqnet.cli.engines import ENGINES
from eqnet.export.targets import built_in


def test_engines_are_those_of_targets_under_their_names() -> None:
    assert {name: row.target for name, row in ENGINES.items()} == {name: name for name in ENGINES}
    assert set(ENGINES) < {target.name for target in built_in()}
    assert next(iter(ENGINES)) == "eqnet", "the one that is suggested"
