"""C++ that only a benchmark needs: compiled when it runs, for the machine it runs on."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path


def compiled(name: str, *flags: str) -> ctypes.CDLL:
    """The shared library of the C++ source ``name`` beside this file, built with ``$CXX`` or ``c++``.

    Raises:
        SystemExit: the compiler is missing or refuses; its own message is printed above.
    """
    source = Path(__file__).with_name(name)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library.so"
        options = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread"]
        command = [os.environ.get("CXX", "c++"), *options, str(source), "-o", str(library), *flags]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as e:
            raise SystemExit(f"{source.name} does not compile: {e}") from e
        return ctypes.CDLL(str(library))
