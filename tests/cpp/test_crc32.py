"""Checksums against zlib's, on this processor and on an emulated one."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [Path(__file__).with_name("crc32.cpp"), ROOT / "cpp" / "cpu" / "crc32.cpp"]

MACHINES = {"this processor": ("g++", None), "ARM": ("aarch64-linux-gnu-g++", "qemu-aarch64")}


def message() -> bytes:
    state, made = 1, bytearray()
    for _ in range(700):
        state = (state * 1664525 + 1013904223) % 2**32
        made.append(state >> 24)
    return bytes(made)


@pytest.mark.parametrize(("compiler", "emulator"), MACHINES.values(), ids=MACHINES)
def test_they_are_zlibs(compiler: str, emulator: str | None, tmp_path: Path) -> None:
    if not all(shutil.which(tool) for tool in (compiler, emulator) if tool):
        pytest.skip(f"needs {compiler}" + (f" and {emulator}" if emulator else ""))
    program = tmp_path / "crc32"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'cpp' / 'include'}"]
    if emulator:
        flags.append("-static")
    subprocess.run([compiler, *flags, *map(str, SOURCES), "-o", str(program)], check=True)
    command = [emulator, "-cpu", "max", str(program)] if emulator else [str(program)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 100
    for line in lines:
        start, size, found, portable = line.split()
        expected = f"{zlib.crc32(message()[int(start) : int(start) + int(size)]):08x}"
        assert (found, portable) == (expected, expected), line
