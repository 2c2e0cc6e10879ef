"""Artifacts with something wrong: each is either refused with an ``EqnetError``, or read as it is.

What is read is compared with what was written if no checksum was made right again, and in any case with what the
safetensors library reads in the same files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from safetensors.torch import load
from torch import Tensor

from eqnet.errors import EqnetError
from eqnet.packed.artifact import Artifact, write_artifact
from eqnet.packed.record import type_name
from tests.fuzz.damage import Files, damaged, put, read

Loaded = TypeVar("Loaded")
Content = tuple[dict[str, Any], dict[str, Tensor]]


def case(draw: random.Random, folder: Path) -> str:
    """Damages an artifact and loads it from ``folder``.

    Returns:
        What became of it.

    Raises:
        Exception: a finding, unless the outcome was one of the two that are right.
    """
    files, sealed = damaged(draw, _sound())
    put(folder, files)
    content = unless_refused(lambda: _loaded(folder), folder)
    if content is None:
        return "refused"
    _compare(files, content[1])
    if not sealed:
        assert any(_equal(content, sound) for sound in _sound_content()), "what was loaded was never written"
    return "loaded"


def unless_refused(load: Callable[[], Loaded], folder: Path) -> Loaded | None:
    """What ``load`` returns, or None if it raises the right kind of error."""
    try:
        return load()
    except EqnetError as e:
        refusal = str(e)
    assert str(folder) in refusal, f"names no file: {refusal}"
    assert refusal.isprintable(), f"not printable: {refusal!r}"
    return None


def _loaded(folder: Path) -> Content:
    artifact = Artifact.open(folder)
    tensors = {}
    for name in artifact.names:
        tensors[name] = artifact.tensor(name).clone()  # reads every byte
        assert (type_name(tensors[name].dtype), tuple(tensors[name].shape)) == (
            artifact.specs[name].dtype,
            artifact.specs[name].shape,
        )
        artifact.release(name)
    return artifact.config, tensors


def _compare(files: Files, tensors: dict[str, Tensor]) -> None:
    """Fails unless the safetensors library finds the same tensors in the shards that count."""
    names = json.loads(files["config.json"])["quantization_config"]["files"]
    theirs = {name: tensor for file in names for name, tensor in load(files[file]).items()}
    assert set(theirs) == set(tensors), "the safetensors library finds other tensors"
    for name, tensor in tensors.items():
        assert _same(tensor, theirs[name]), f"the safetensors library reads {name!r} otherwise"


def _equal(a: Content, b: Content) -> bool:
    return a[0] == b[0] and set(a[1]) == set(b[1]) and all(_same(tensor, b[1][name]) for name, tensor in a[1].items())


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal to the bit, NaN included."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


@cache
def _sound() -> list[Files]:
    """Artifacts of one file, of two, of three, and of no tensor."""
    tensors = {
        "fc.codes": torch.arange(40).byte(),
        "fc.scale": torch.rand(5, 2, generator=torch.Generator().manual_seed(0)).half(),
        "fc.zero_point": torch.arange(5).byte(),
        "bias": torch.zeros(5),
        "steps": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }
    config = {"hidden": 5, "eps": 1e-5, "quantization_config": {"layers": {"fc": "uint4:group32"}}}
    sound = []
    with TemporaryDirectory() as scratch:
        for shard_bytes, chosen in ((10_000, tensors), (60, tensors), (40, tensors), (1, {})):
            folder = Path(scratch, str(len(sound)))
            write_artifact(folder, config, chosen, shard_bytes=shard_bytes)
            sound.append(read(folder))
    return sound


@cache
def _sound_content() -> list[Content]:
    """What is in them: one of them may have become another."""
    with TemporaryDirectory() as scratch:
        content = []
        for files in _sound():
            put(Path(scratch, "a"), files)
            content.append(_loaded(Path(scratch, "a")))
    return content
