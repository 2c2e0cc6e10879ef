"""Twenty seconds of ``make fuzz``, always the same cases first."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.__main__ import FUZZERS

SECONDS = 7.0
ENOUGH = 100  # cases that even a slow machine does in that time


@pytest.mark.parametrize("name", FUZZERS)
def test_damaged_input_is_refused_or_read_as_it_is(name: str, tmp_path: Path) -> None:
    stop = time.monotonic() + SECONDS
    outcomes: Counter[str] = Counter()
    while time.monotonic() < stop:
        outcomes[FUZZERS[name](random.Random(f"{name} 0 {outcomes.total()}"), tmp_path / "artifact")] += 1
    assert outcomes.total() > ENOUGH
    assert len(outcomes) == 2  # some are refused, some are sound
