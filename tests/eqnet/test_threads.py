"""How many threads are used inside."""

from __future__ import annotations

import pytest
import torch

from eqnet.threads import threads


def test_threads_are_as_before_also_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with threads(before + 1):
            raise KeyError(torch.get_num_threads())

    with pytest.raises(KeyError, match=f"{before + 1}"):
        fail()
    assert torch.get_num_threads() == before
