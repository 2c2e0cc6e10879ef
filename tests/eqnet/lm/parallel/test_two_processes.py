"""Two processes over gloo answer what one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from eqnet.lm.engine import TransformersEngine
from eqnet.lm.generation import generate
from tests.eqnet.lm.models import random_ids
from tests.eqnet.lm.packed_models import packed_model
from tests.eqnet.lm.parallel.worker import TOKENS

MODELS = {
    "llama": "w=4:group32:asym a=float edge=none scale=fp16",
    "llama-tied": "w=3:group16:asym a=float edge=none scale=fp16",
    "qwen3": "w=5:group64:sym a=float edge=none scale=fp16",
    "glm4": "w=4:channel:sym a=float edge=none scale=fp16",
    "gpt2": "w=4:group32:sym a=float edge=none scale=fp16",
    "gemma3": "w=6:group32:asym a=float edge=none scale=fp32",
}
"""With formats; rows of 64 columns in groups of 64 are cut within a group."""

ROUNDING = 5e-5
"""Logits of about 1 in float32: sums over the inputs of a layer are added up in two parts."""


def started(arguments: Sequence[str], count: int = 2) -> list[tuple[int, str]]:
    """Exit status and last words of each of the processes that share a port of the loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            env={**os.environ, **common, "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        words = [process.communicate(timeout=100)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, words)]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: packed_model(name, choices)[1] for name, choices in MODELS.items()}


@pytest.fixture(scope="module")
def found(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found."""
    folder = tmp_path_factory.mktemp("split")
    for name, packed in models.items():
        packed.save(folder / name)
    for status, words in started(["-m", "tests.eqnet.lm.parallel.worker", str(folder), str(folder / "out"), *models]):
        assert status == 0, words
    return [json.loads((folder / f"out.{rank}").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_tokens_are_those_of_one_process(
    name: str, models: dict[str, Any], found: list[dict[str, Any]]
) -> None:
    engine = TransformersEngine(models[name])
    expected = engine.session(12).feed_all(random_ids(12))
    assert found[0][name]["logits"] == found[1][name]["logits"], "to the last bit, so that both draw the same"
    np.testing.assert_allclose(found[0][name]["logits"], expected, rtol=0, atol=ROUNDING)
    tokens = list(generate(engine, random_ids(12), most=TOKENS))
    assert [part[name]["tokens"] for part in found] == [tokens, tokens]


@pytest.mark.parametrize("name", MODELS)
def test_each_process_holds_its_part(name: str, models: dict[str, Any], found: list[dict[str, Any]]) -> None:
    whole = sum(layer.weight.nbytes for layer in models[name].layers.values() if layer.kind is torch.nn.Linear)
    parts = [sum(part[name]["bytes"]) for part in found]
    # Scales of whole rows are in both; a group that is cut has its scale twice.
    assert whole <= sum(parts) < 1.1 * whole
    assert max(parts) < 0.55 * whole
    assert "split among 2 processes (cpu)" in found[0][name]["said"]


def test_texts_are_shared(found: list[dict[str, Any]]) -> None:
    assert [part["said"] for part in found] == [{"text": "é\n", "none": None}] * 2
