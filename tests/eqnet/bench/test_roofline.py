"""The loops that show what a machine can do, on each instruction set that it has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from eqnet import _kernels
from eqnet.bench.roofline import LIMITS, limits

REGISTERS = {"avx512": (16, 64), "avx2": (12, 32), "neon": (16, 16), "portable": (6, 16)}
"""Sums in flight, and bytes of a register, by instruction set."""

AVAILABLE = {"avx512": ["avx512", "avx2"], "avx2": ["avx2"], "neon": ["neon"], "portable": []}[_kernels.isa()]

PAGES = """
import ctypes, mmap, sys
from eqnet import _kernels
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 5 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
guard = start + 4 * page
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
for lines in (0, 1, 7, 8, 9, 4 * page // 64):
    for threads in (1, 3):
        _kernels.read_memory(guard - 64 * lines, 64 * lines + 63 * (lines == 0), 2, threads)
print("read all", flush=True)
_kernels.read_memory(guard - 64 * 8, 64 * 9, 1, 1)
"""


def _process(code: str, isa: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"EQNET_CPU": isa}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("isa", [*AVAILABLE, "portable"])
def test_operations_are_counted(isa: str) -> None:
    code = (
        "from eqnet import _kernels as k; "
        "print(k.isa(), *(f(8000, n) for f in (k.multiply_int8, k.multiply_float) for n in (1, 2)))"
    )
    done = _process(code, isa)
    sums, width = REGISTERS[isa]
    int8, floats = 8000 * sums * width * 2, 8000 * sums * width // 4 * 2
    assert done.stdout.split() == [isa, *(str(float(n)) for n in (int8, 2 * int8, floats, 2 * floats))], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="protects a page as Linux does")
@pytest.mark.parametrize("isa", [*AVAILABLE, "portable"])
def test_all_of_the_memory_is_read_and_nothing_behind_it(isa: str) -> None:
    done = _process(PAGES, isa)
    assert done.stdout == "read all\n", done.stderr
    assert done.returncode == -signal.SIGSEGV, "the line behind was protected"


def test_limits_of_this_machine_are_ordered_as_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqnet.bench.roofline.MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr("eqnet.bench.roofline.AT_ONCE", 3 << 20)
    monkeypatch.setattr("eqnet.bench.roofline.REPEATS", 800)
    found = limits(1)
    assert list(found) == list(LIMITS)
    assert found["memory"].amount == 3 << 20
    assert found["cache"].amount == 3 << 20
    assert found["int8"].rate(2.0) == found["int8"].amount / 2
    for limit in found.values():
        limit.call()
