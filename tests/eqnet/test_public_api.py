"""What ``import eqnet`` gives, and what it costs."""

from __future__ import annotations

import doctest
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

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


def test_importing_takes_less_than_a_second_and_a_half() -> None:
    code = "import time; start = time.perf_counter(); import eqnet; print(time.perf_counter() - start)"
    seconds = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(seconds) < 1.5


def modules_with_examples() -> list[str]:
    found = []
    for module in pkgutil.walk_packages(eqnet.__path__, "eqnet."):
        spec = importlib.util.find_spec(module.name)
        if spec and spec.origin and spec.origin.endswith(".py") and ">>> " in Path(spec.origin).read_text("utf-8"):
            found.append(module.name)
    return found


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_in_docstrings_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
