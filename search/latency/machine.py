"""What a time was taken on: times of one machine say nothing of another."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from eqnet import _kernels

_CPU_INFO = Path("/proc/cpuinfo")


def machine(threads: int) -> str:
    """Processor, instruction set of the kernels, threads and versions, in words."""
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("eqnet", "torch"))
    return f"{_processor()}, {_kernels.isa()}, {count}, {versions}"


def _processor() -> str:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
