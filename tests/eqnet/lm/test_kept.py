"""Tensors that are kept: read as they were written, and only for what they were made from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eqnet.errors import RunError
from eqnet.lm.kept import KeptTensors

TENSORS = {"ids": torch.arange(6).view(2, 3), "hidden": torch.linspace(0, 1, 24).view(2, 3, 4)}


@pytest.fixture
def kept(tmp_path: Path) -> KeptTensors:
    kept = KeptTensors(tmp_path / "kept.safetensors", "mine")
    kept.write(TENSORS)
    return kept


def test_tensors_are_read_as_they_were_written(kept: KeptTensors) -> None:
    found = kept.read()
    assert found is not None
    assert set(found) == set(TENSORS)
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_nothing_is_read_where_nothing_was_written_or_something_else_was(kept: KeptTensors, tmp_path: Path) -> None:
    assert KeptTensors(tmp_path / "other.safetensors", "mine").read() is None
    assert KeptTensors(kept.path, "yours").read() is None


@pytest.mark.parametrize("length", [None, 40, 0])
def test_a_damaged_file_is_named(kept: KeptTensors, length: int | None) -> None:
    content = bytearray(kept.path.read_bytes())
    content[-1] ^= 1
    kept.path.write_bytes(content[:length])
    with pytest.raises(RunError, match=r"kept\.safetensors: cannot be read .*; remove it"):
        kept.read()
