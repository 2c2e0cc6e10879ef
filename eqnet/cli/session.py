"""From the options of a verb to an opened run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from eqnet.errors import InputError
from eqnet.run import Plan, Run, clear

_AVAILABLE: Mapping[str, Callable[[], bool]] = {
    "cpu": lambda: True,
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}


def accelerator_for(device: str, precision: str) -> Any:
    """A Hugging Face accelerator for ``auto``, ``cpu``, ``cuda`` or ``mps`` and ``fp32`` or ``bf16``.

    Raises:
        InputError: the machine has no such device.
    """
    if device != "auto" and not _AVAILABLE[device]():
        present = ", ".join(name for name, available in _AVAILABLE.items() if available())
        raise InputError(f"--device {device}: this machine has none; choose among {present}")
    from accelerate import Accelerator  # slow to import

    return Accelerator(cpu=device == "cpu", mixed_precision="no" if precision == "fp32" else precision)


@contextmanager
def opened(options: Mapping[str, Any], accelerator: Any) -> Iterator[Run]:
    """The run that the options of ``run_options`` describe, open in every process of the accelerator.

    The main process goes first, so that what it prepares (the folder, a pretrained model) is there for the others.
    """
    plan = Plan(options["task"], options["space"], options["epochs"], options["seed"], options["precision"])
    folder = options["out"] or Path("runs") / default_name(plan.task)
    with accelerator.main_process_first():
        if accelerator.is_main_process and options["fresh"]:
            clear(folder)
        run = Run(folder, plan, device=accelerator.device, shared=not accelerator.is_main_process)
    with run:
        yield run


def default_name(task: str) -> str:
    """The name of a task's folder: ``digits``, or ``name`` of ``package.module:name``."""
    return task.rpartition(":")[2]
