"""Runs a library once, as others will: by its loader, in a process that knows TVM's runtime alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eqnet.errors import RunError
from eqnet.export.tvm.loader import loader_path
from eqnet.packed.model import PackedModel
from eqnet.runtime.program import compile, single_image
from eqnet.tracing import ExampleInputs, call

MAX_DIFFERENCE = 0.1
"""In the 2-norm, relative. What lies half-way between two codes may go to the other one in a few places."""

Vector = npt.NDArray[np.float64]

_SCRIPT = """\
import sys
for name in ("torch", "eqnet"):  # whoever uses the library may have neither
    sys.modules[name] = None
import numpy as np
folder, module, given, computed = sys.argv[1:]
sys.path.insert(0, folder)
model = __import__(module).model
arrays = np.load(given)
result = model(*(arrays[name] for name in arrays.files))
np.savez(computed, *(result if isinstance(result, list) else [result]))
"""

_SAID = 2000
"""Characters of what a failing process says that are passed on: the last ones."""


def difference(packed: PackedModel, library: Path, example_inputs: ExampleInputs, whole: bool) -> float:
    """How far results of the library are from the packed model's, relative to these, in the 2-norm.

    Args:
        packed: what the library has been made of.
        library: with its loader beside it.
        example_inputs: one batch of inputs.
        whole: whether it is one program on integers, so that it rounds where eqnet's own program does.

    Raises:
        RunError: the library does not run, or computes something else.
    """
    found = [part.astype(np.float64).ravel() for part in run_loader(library, _arrays(example_inputs))]
    with torch.no_grad():
        expected = _flat(call(packed, example_inputs))
    off = _distance(found, expected, library)
    doubt = off
    if whole:
        x = single_image(example_inputs)
        doubt = _distance(found, _flat(compile(packed, x)(x)), library)
    if not doubt <= MAX_DIFFERENCE:
        raise RunError(f"{library.name}: its results are off by {doubt:.1%} of the model's; please report this")
    return off


def _distance(found: list[Vector], expected: list[Vector], library: Path) -> float:
    if [len(part) for part in found] != [len(part) for part in expected]:
        raise RunError(f"{library.name}: returned results of other sizes than the model's; please report this")
    norm = float(np.sqrt(sum(np.sum(part**2) for part in expected)))
    off = float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(found, expected, strict=True))))
    return off / norm if norm else off


def run_loader(library: Path, inputs: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """What the loader beside ``library`` computes of ``inputs``, in a process of its own.

    Raises:
        RunError: it fails; the message has what it said.
    """
    with tempfile.TemporaryDirectory() as name:
        given, computed = Path(name, "given.npz"), Path(name, "computed.npz")
        np.savez(given, *inputs)
        command = [sys.executable, "-c", _SCRIPT, library.parent, loader_path(library).stem, given, computed]
        environment = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
        run = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, check=False, env=environment, cwd=name
        )
        if run.returncode != 0:
            raise RunError(f"{library.name}: does not run in TVM's runtime:\n{run.stderr[-_SAID:]}")
        with np.load(computed) as arrays:
            return [arrays[name] for name in arrays.files]


def _arrays(inputs: ExampleInputs) -> list[npt.NDArray[Any]]:
    values = [inputs] if isinstance(inputs, Tensor) else [*(inputs.values() if isinstance(inputs, Mapping) else inputs)]
    return [value.detach().numpy() for value in values]


def _flat(result: Any) -> list[Vector]:
    """All tensors of a model's result, each as a vector."""
    tensors = [x for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, Tensor)]
    return [tensor.double().numpy().ravel() for tensor in tensors]
