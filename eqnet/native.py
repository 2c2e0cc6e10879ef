"""The compiled kernels as Python knows them: numbers of types and ways, their threads, and that they run here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eqnet.errors import InputError

COMPUTE = {"float": 0, "int8": 1}
"""How products are taken: on activations as they are, or rounded to int8, each 32 of a row by a scale."""

SCALE_TYPES = {"float16": 0, "bfloat16": 1, "float32": 2}
"""The numbers by which the kernels know the types of scales."""

_TOPOLOGY = Path("/sys/devices/system/cpu")


def check_instructions() -> None:
    """Raises InputError if the environment asks for instructions that this machine does not have."""
    from eqnet import _kernels

    try:
        _kernels.isa()
    except ValueError as e:
        raise InputError(f"{e}; unset it for the best that there is") from e


def check_compute(compute: str) -> None:
    """Raises InputError unless ``compute`` is one of ``COMPUTE``."""
    if compute not in COMPUTE:
        raise InputError(f"compute='{compute}' is unknown; choose {' or '.join(COMPUTE)}")


def address(array: Any) -> int:
    """Where an array of NumPy begins; 0 for None."""
    return 0 if array is None else int(array.__array_interface__["data"][0])


def default_threads() -> int:
    """As many as PyTorch takes: what ``OMP_NUM_THREADS`` says, or else the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isascii() and asked.isdecimal() and int(asked) > 0:
        return int(asked)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    try:
        cores = {(_TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text("ascii") for cpu in usable}
    except OSError:
        return len(usable)
    return len(cores)
