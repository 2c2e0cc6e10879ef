"""Packed language models with something wrong on disk: each is refused, left to transformers, or read as it is."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from eqnet.lm.decoder import Decoder, UnknownBlockError
from eqnet.lm.decoder.files import open_decoder
from eqnet.packed.artifact import Artifact
from tests.eqnet.lm.decoder.packed import KNOWN, packed
from tests.fuzz.damage import Files, damaged, put, read
from tests.fuzz.loader import unless_refused

NAMES = ("llama with llama3 positions", "gemma3 with a window")
IDS = tuple(range(6))

Logits = NDArray[np.float32]


def case(draw: random.Random, folder: Path) -> str:
    """Damages a packed language model and opens it from ``folder``.

    Returns:
        What became of it.

    Raises:
        Exception: a finding.
    """
    sound, right = _sound(draw.choice(NAMES))
    files, sealed = damaged(draw, sound)
    put(folder, files)
    decoder = unless_refused(lambda: _known(folder), folder)
    if decoder is None or decoder.context < len(IDS):
        return "refused"
    found = decoder.session(len(IDS)).feed_all(IDS)
    if not sealed:
        assert any(np.array_equal(found, other) for other in right), "it computes something else"
    return "computed"


def _known(folder: Path) -> Decoder | None:
    """The decoder of a folder; None if what is in there is left to transformers."""
    try:
        return open_decoder(Artifact.open(folder), threads=1)
    except UnknownBlockError:
        return None


@cache
def _sound(name: str) -> tuple[list[Files], list[Logits]]:
    """The files of a model, and its logits."""
    with TemporaryDirectory() as scratch:
        packed(KNOWN[name]()).save(scratch)
        decoder = open_decoder(Artifact.open(scratch), threads=1)
        return [read(Path(scratch))], [decoder.session(len(IDS)).feed_all(IDS)]
