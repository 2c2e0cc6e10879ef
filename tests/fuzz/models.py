"""Packed models with something wrong on disk: each is refused with an ``EqnetError``, or computes."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

import eqnet
from eqnet.formats import Format, LayerFormat
from tests.eqnet.packed.kinds import calibrated
from tests.eqnet.packed.models import MODELS, trained
from tests.fuzz.damage import Files, damaged, put, read
from tests.fuzz.loader import unless_refused

NAMES = ("tied weights", "parts")
WEIGHTS = ("uint3:channel", "int4:tensor")


def case(draw: random.Random, folder: Path) -> str:
    """Damages a packed model and loads it from ``folder``.

    Returns:
        What became of it.

    Raises:
        Exception: a finding.
    """
    name = draw.choice(NAMES)
    sound, x, right = _sound(name)
    files, sealed = damaged(draw, sound)
    put(folder, files)
    model = unless_refused(lambda: eqnet.load(folder, model=MODELS[name][0]), folder)
    if model is None:
        return "refused"
    with torch.no_grad():
        y = model(x)
    assert y.shape == right[0].shape
    if not sealed:
        assert any(torch.equal(y, other) for other in right), "it computes something else"
    return "computed"


@cache
def _sound(name: str) -> tuple[list[Files], Tensor, list[Tensor]]:
    """The files of a model in several formats, its inputs, and the outputs for each format."""
    float_model, x = trained(name)
    supernet = calibrated(float_model, x, "w=2-8:tensor,channel:sym,asym a=8:asym")
    sound, outputs = [], []
    for weight in WEIGHTS:
        wanted = LayerFormat(Format.parse(weight), Format(8, False))
        model = eqnet.pack(supernet, supernet.space.nearest(wanted))
        with TemporaryDirectory() as scratch, torch.no_grad():
            model.save(scratch)
            sound.append(read(Path(scratch)))
            outputs.append(model(x))
    return sound, x, outputs
