"""Weights that are read from a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eqnet.errors import RunError
from eqnet.export.gguf import write_gguf
from eqnet.lm.source import open_source
from eqnet.lm.weights import gguf as module
from eqnet.lm.weights.gguf import GgufWeights
from eqnet.lm.weights.gguf_header import GgufHeader
from tests.export.language_models import packed, random_model

pytest.importorskip("gguf")


@pytest.mark.parametrize("piece", [1, 100, 1 << 20], ids=str)
def test_every_weight_has_its_value_whatever_is_read_at_a_time(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row at a time, a few with fewer at the end, and all at once; those of q and k in another order than stored."""
    monkeypatch.setattr(module, "_PIECE", piece)
    model = packed(random_model("Llama"), {"q_proj": "uint4:group32", "": "int4:group32"}, "int8:group32")
    write_gguf(model, tmp_path / "model.gguf")
    source = open_source(tmp_path / "model.gguf")
    for path, layer in model.layers.items():
        found = source.tensor(f"{path}.weight")
        assert torch.equal(found, layer.weight.dequantize()), path
        found.zero_()  # it is nobody else's


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shape": (4, 16)}, "cannot be read .*; copy the file anew"),  # columns of a type that holds 32 in a block
        ({"kind": 24}, "is of a type that the package gguf cannot read .*I8.*; upgrade it"),
    ],
    ids=["shape", "type"],
)
def test_a_tensor_that_cannot_be_read_is_named(changed: Mapping[str, Any], said: str, tmp_path: Path) -> None:
    """Of a damaged header, or of a later version."""
    path = tmp_path / "model.gguf"
    write_gguf(packed(random_model("Llama"), {"": "int4:group32"}, "int8:group32"), path)
    header = GgufHeader(path)
    name, whole = next((name, tensor) for name, tensor in header.tensors.items() if "ffn_down" in name)
    source = open_source(path)
    weights = GgufWeights(path, source.skeleton())
    weights._header.tensors[name] = replace(whole, **changed)
    key = "model.layers.0.mlp.down_proj.weight"
    with pytest.raises(RunError, match=rf"tensor '{name}' {said}"):
        weights.read(key)
