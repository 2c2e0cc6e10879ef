"""What most tests of the search begin with."""

from __future__ import annotations

import pytest

from eqnet import Supernet, Task
from tests.search.small import small_supernet, small_task


@pytest.fixture(scope="module")
def task() -> Task:
    return small_task()


@pytest.fixture(scope="module")
def supernet(task: Task) -> Supernet:
    return small_supernet(task)
