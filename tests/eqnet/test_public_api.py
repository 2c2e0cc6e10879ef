"""What ``import eqnet`` gives, and what it costs."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

import eqnet


def test_every_public_name_is_there_and_listed_once() -> None:
    assert eqnet.__all__ == sorted(set(eqnet.__all__), key=lambda name: (name.islower(), name))
    for name in eqnet.__all__:
        assert getattr(eqnet, name).__doc__, name
    assert set(eqnet.__all__) <= set(dir(eqnet))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        eqnet.nothing  # noqa: B018


def test_importing_loads_nothing_that_is_not_used() -> None:
    code = "import sys, eqnet, eqnet.search, eqnet.export; print(' '.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {
        "torch",
        "onnx",
        "onnxruntime",
        "tvm",
        "transformers",
        "deap",
        "matplotlib",
        "sklearn",
        "scipy",
    }


@pytest.mark.parametrize(
    "module", ["eqnet.formats", "eqnet.choices", "eqnet.search.budget", "eqnet.search.cost", "eqnet.search.store"]
)
def test_examples_in_docstrings_run(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
