"""The C++ compiler that makes libraries, for this machine or for another one."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqnet.errors import InputError, RunError

_SAID = 2000
"""Characters of what a failing compiler says that are passed on: the last ones."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler of the command line of GCC.

    Attributes:
        command: how it is called.
        machine: what it compiles for, as it says itself: ``aarch64-linux-gnu``.
    """

    command: tuple[str, ...]
    machine: str

    @classmethod
    def find(cls, command: str | None = None) -> Compiler:
        """The compiler of that command; of ``$CXX`` or ``c++`` if None.

        Raises:
            InputError: it is missing, or no such compiler; the message names the Debian package.
        """
        given = command or os.environ.get("CXX") or "c++"
        words = tuple(shlex.split(given))
        if not words or shutil.which(words[0]) is None:
            raise InputError(f"the compiler {given} is missing; on Debian: apt-get install {_debian_package(given)}")
        run = subprocess.run([*words, "-dumpmachine"], capture_output=True, text=True, check=False)
        machine = run.stdout.strip()
        if run.returncode != 0 or re.fullmatch(r"[\w.]+(-[\w.]+)+", machine) is None:
            raise InputError(f"{given} does not say what it compiles for; expected g++, clang++ or one like them")
        return cls(words, machine)

    @property
    def processor(self) -> str:
        """Such as ``x86_64`` or ``aarch64``."""
        return _processor(self.machine.partition("-")[0])

    @property
    def is_native(self) -> bool:
        """Whether this machine runs what it compiles."""
        return self.processor == _processor(platform.machine())

    def run(self, arguments: Sequence[str | Path]) -> None:
        """Runs it; raises RunError with what it says if it fails."""
        command = [*self.command, *map(str, arguments)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RunError(f"{shlex.join(command)} failed:\n{(run.stderr or run.stdout)[-_SAID:]}")


def _processor(name: str) -> str:
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name.lower(), name.lower())


def _debian_package(command: str) -> str:
    match = re.match(r"(?:.*/)?(?P<machine>[\w.]+(?:-[\w.]+)+)-(?:g\+\+|gcc|c\+\+)(?P<version>-\d+)?", command)
    return f"g++{match['version'] or ''}-{match['machine'].replace('_', '-')}" if match else "g++"
