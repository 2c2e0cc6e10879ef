"""What starting with an artifact costs: a process of its own loads it and runs it once.

python -m eqnet.bench.fresh ARTIFACT INPUT.npy THREADS exact|fast [CACHE TASK]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

TIMEOUT = 600
"""Seconds that the process may take."""


@dataclass(frozen=True)
class Start:
    """What a new process needs until its first output.

    Attributes:
        importing: seconds to import PyTorch and eqnet.
        loading: seconds from the artifact to what can be called.
        first_output: seconds from there to the first output, with whatever is prepared for it.
        imported_bytes: memory in use at most once all is imported; None where the system does not tell.
        peak_bytes: memory in use at most up to the first output; None where the system does not tell.
    """

    importing: float
    loading: float
    first_output: float
    imported_bytes: int | None
    peak_bytes: int | None


def start(path: Path, x: Tensor, threads: int, task: str | None, cache: Path, *, exact: bool = True) -> Start:
    """Starts a process that opens an artifact and runs it on ``x``; see ``open_artifact``.

    Raises:
        EqnetError: the process failed; the message has its last words.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as temporary:
        inputs = Path(temporary) / "x.npy"
        np.save(inputs, x.float().numpy() if x.is_floating_point() else x.numpy())
        how = "exact" if exact else "fast"
        given = [str(path), str(inputs), str(threads), how, *([str(cache), task] if task is not None else [])]
        return Start(**in_new_process(path, "eqnet.bench.fresh", given, TIMEOUT))


def in_new_process(path: Path, module: str, arguments: Sequence[str], timeout: int) -> Any:
    """What a module prints as JSON, on its last line, when it is run by itself.

    Args:
        path: of what it is about, for messages.
        module: to run.
        arguments: of it.
        timeout: seconds that it may take.

    Raises:
        EqnetError: the process failed; the message is eqnet's own, or has its last words.
    """
    from eqnet.errors import EqnetError

    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as e:
        raise EqnetError(f"{path}: a new process has no output after {timeout} s") from e
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        kind, _, message = words.partition(": ")
        if kind.startswith(f"{EqnetError.__module__}."):
            raise EqnetError(message)  # as this process would have said it
        raise EqnetError(f"{path}: a new process cannot run it: {words}")
    return json.loads(done.stdout.splitlines()[-1])


def _main(path: str, inputs: str, threads: str, how: str, cache: str = "", task: str | None = None) -> dict[str, Any]:
    begin = time.perf_counter()
    import numpy as np
    import torch

    from eqnet.deploy.opening import CACHE, open_artifact

    torch.set_num_threads(int(threads))
    x = torch.from_numpy(np.load(inputs, allow_pickle=False))
    imported, imported_bytes = time.perf_counter(), peak_memory()
    opened = open_artifact(Path(path), task, cache=Path(cache) if cache else CACHE, exact=how == "exact")
    if opened.taken is not None:
        x = x.to(opened.taken.dtype)
    loaded = time.perf_counter()
    opened.runner(x)
    return {
        "importing": imported - begin,
        "loading": loaded - imported,
        "first_output": time.perf_counter() - loaded,
        "imported_bytes": imported_bytes,
        "peak_bytes": peak_memory(),
    }


def peak_memory() -> int | None:
    """Most bytes of memory that this process had; getrusage would tell those of its parent if they were more."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    print(json.dumps(_main(*sys.argv[1:])))
