"""The script beside a library that runs it where there is nothing but TVM's runtime and NumPy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_TEXT = '''\
"""Runs {name} beside it; needs nothing but TVM's runtime and NumPy: pip install apache-tvm numpy.

    from {module} import model  # threads: the environment variable TVM_NUM_THREADS
    model({arguments})
"""

import os
import threading
from pathlib import Path

os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")  # leaves TVM's compiler aside
os.environ.setdefault("TVM_BIND_THREADS", "0")  # leaves this process on all of its cores
import tvm
from tvm.runtime.vm import VirtualMachine

_library = tvm.runtime.load_module(str(Path(__file__).with_name("{name}")))


class _Machine(threading.local):  # one for each thread: a machine runs one call at a time
    def __init__(self):
        self.main = VirtualMachine(_library, tvm.cpu())["main"]


_machine = _Machine()


def model(*inputs):
    """NumPy arrays in the order of the model's inputs; the result, or a list of results."""
    result = _machine.main(*map(tvm.runtime.tensor, inputs))
    return result.numpy() if hasattr(result, "numpy") else [part.numpy() for part in result]
'''


def loader_path(library: Path) -> Path:
    """Where it is: ``my_model_loader.py`` beside ``my-model.so``."""
    return library.with_name(re.sub(r"\W", "_", library.stem) + "_loader.py")


def loader_text(library: Path, inputs: Sequence[str]) -> str:
    """The script.

    Args:
        library: that it is to lie beside.
        inputs: their names.
    """
    return _TEXT.format(name=library.name, module=loader_path(library).stem, arguments=", ".join(inputs))
