"""The script beside a library for GPUs that runs it where there is TVM and a GPU, without nvcc."""

from __future__ import annotations

from collections.abc import Sequence

_TEXT = '''\
"""Runs model.so beside it on an NVIDIA GPU; needs TVM and NumPy: pip install apache-tvm numpy.

    from load import model
    model({arguments})
"""

import threading
from pathlib import Path

import tvm  # with its compiler: alone, TVM's runtime does not look for GPUs
import tvm_ffi
from tvm.runtime.vm import VirtualMachine

_HERE, _DEVICE = Path(__file__).parent, tvm.cuda()
# The library holds CUDA's source, which TVM would have compiled now: kernels.fatbin is that.
tvm_ffi.register_global_func(
    "tvm_callback_cuda_compile", lambda source: (_HERE / "kernels.fatbin").read_bytes(), override=True
)
_library = tvm.runtime.load_module(str(_HERE / "model.so"))


class _Machine(threading.local):  # one for each thread: a machine runs one call at a time
    def __init__(self):
        self.main = VirtualMachine(_library, _DEVICE)["main"]


_machine = _Machine()


def model(*inputs):
    """NumPy arrays in the order of the model's inputs; the result, or a list of results."""
    result = _machine.main(*(tvm.runtime.tensor(array, _DEVICE) for array in inputs))
    return result.numpy() if hasattr(result, "numpy") else [part.numpy() for part in result]
'''


def loader_text(inputs: Sequence[str]) -> str:
    """The script, from the names of the inputs."""
    return _TEXT.format(arguments=", ".join(inputs))
