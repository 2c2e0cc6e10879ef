"""The convolutions for ARM, which this processor cannot run: compiled for it, and run by an emulator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"

CPP = Path(__file__).parents[2] / "cpp"
SOURCES = [
    Path(__file__).with_name("convolution.cpp"),
    *(CPP / "cpu" / "conv" / f"{name}.cpp" for name in ("conv", "dense", "depthwise", "neon", "portable")),
    CPP / "cpu" / "isa.cpp",
]


@pytest.mark.skipif(not shutil.which(COMPILER) or not shutil.which(EMULATOR), reason=f"needs {COMPILER} and {EMULATOR}")
def test_neon_equals_the_definition(tmp_path: Path) -> None:
    program = tmp_path / "convolution"
    flags = ["-std=c++17", "-O1", "-static", "-ffp-contract=off", "-march=armv8.2-a+dotprod", f"-I{CPP / 'include'}"]
    subprocess.run([COMPILER, *flags, *map(str, SOURCES), "-o", str(program)], check=True)
    run = subprocess.run([EMULATOR, "-cpu", "max", str(program)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "neon: 0 wrong\n"), run.stderr
