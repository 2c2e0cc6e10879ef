"""NVIDIA's compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqnet.errors import InputError, RunError

_ARCHITECTURE = re.compile(r"sm_(?P<number>[0-9]{2,3})[a-z]?")

_OLDEST = 70
"""Of the architectures whose instructions for adding up among threads TVM's code has."""

_SAID = 2000
"""Characters of what a failing compiler says that are passed on: the last ones."""


def check_architectures(names: Sequence[str]) -> tuple[str, ...]:
    """The names, oldest first, each once.

    Raises:
        InputError: there are none, or one is no architecture such as ``sm_80``, or too old.
    """
    numbers = {}
    for name in names:
        match = _ARCHITECTURE.fullmatch(name)
        if match is None or int(match["number"]) < _OLDEST:
            raise InputError(f"architecture '{name}': expected sm_{_OLDEST} or a newer one, such as sm_80")
        numbers[name] = int(match["number"])
    if not numbers:
        raise InputError("no architecture was given; choose some, such as sm_80 and sm_90")
    return tuple(sorted(numbers, key=lambda name: numbers[name]))


@dataclass(frozen=True)
class Nvcc:
    """The compiler.

    Attributes:
        command: its path.
    """

    command: str

    @classmethod
    def find(cls) -> Nvcc:
        """The one on PATH; raises InputError, with what to do, if there is none."""
        command = shutil.which("nvcc")
        if command is None:
            raise InputError(
                "nvcc is missing, which compiles CUDA; install the CUDA toolkit (on Debian: apt-get install "
                "nvidia-cuda-toolkit) and put its folder bin on PATH"
            )
        return cls(command)

    def cubin(self, source: Path, architecture: str, result: Path) -> None:
        """Compiles ``source`` for one architecture."""
        self._run(["-cubin", f"-arch={architecture}", str(source), "-o", str(result)], architecture)

    def fatbin(self, source: Path, architectures: Sequence[str], result: Path) -> None:
        """Compiles ``source`` for all of the architectures, and for newer ones than the last, into one file."""
        newest = architectures[-1].removeprefix("sm_")
        codes = [f"-gencode=arch=compute_{name.removeprefix('sm_')},code={name}" for name in architectures]
        codes.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
        self._run(["-fatbin", *codes, str(source), "-o", str(result)], ", ".join(architectures))

    def _run(self, arguments: Sequence[str], what: str) -> None:
        # TVM's code has variables that nothing reads, which would be warned of.
        run = subprocess.run([self.command, "-O3", "-w", *arguments], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RunError(f"nvcc cannot compile for {what}: {(run.stderr or run.stdout).strip()[-_SAID:]}")
