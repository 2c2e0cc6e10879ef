"""What starting with an artifact costs: a process of its own loads it and runs it once.

python -m eqnet.bench.fresh FOLDER INPUT.npy THREADS COMPUTE [CACHE TASK]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from eqnet.deploy.opening import Deployed

TIMEOUT = 600
"""Seconds that the process may take."""


@dataclass(frozen=True)
class Start:
    """What a new process needs until its first output.

    Attributes:
        importing: seconds to import PyTorch and eqnet.
        loading: seconds from the folder to the packed model.
        first_output: seconds from there to the first output, with whatever is prepared for it.
        imported_bytes: memory in use at most once all is imported; None where the system does not tell.
        peak_bytes: memory in use at most up to the first output; None where the system does not tell.
    """

    importing: float
    loading: float
    first_output: float
    imported_bytes: int | None
    peak_bytes: int | None


def start(opened: Deployed, x: Tensor, threads: int, task: str | None, cache: Path) -> Start:
    """Starts a process that loads what ``opened`` was loaded from, in the same way, and runs it on ``x``.

    Raises:
        EqnetError: the process failed; the message has its last words.
    """
    import numpy as np

    from eqnet.errors import EqnetError

    folder, compute = opened.folder, opened.packed.compute

    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "x.npy"
        np.save(path, x.float().numpy() if x.is_floating_point() else x.numpy())
        given = [str(folder), str(path), str(threads), compute, *([str(cache), task] if task is not None else [])]
        command = [sys.executable, "-m", "eqnet.bench.fresh", *given]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired as e:
            raise EqnetError(f"{folder}: a new process has no output after {TIMEOUT} s") from e
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise EqnetError(f"{folder}: a new process cannot run it: {words}")
    return Start(**json.loads(done.stdout.splitlines()[-1]))


def _main(
    folder: str, path: str, threads: str, compute: str, cache: str = "", task: str | None = None
) -> dict[str, Any]:
    begin = time.perf_counter()
    import numpy as np
    import torch

    from eqnet.deploy.engine import engine_for
    from eqnet.deploy.opening import CACHE, open_artifact

    torch.set_num_threads(int(threads))
    x = torch.from_numpy(np.load(path, allow_pickle=False))
    imported, imported_bytes = time.perf_counter(), _peak()
    opened = open_artifact(Path(folder), task, cache=Path(cache) if cache else CACHE, compute=compute)
    if opened.origin is not None:
        x = x.to(opened.origin.dtype)
    loaded = time.perf_counter()
    engine_for(opened.packed, x[:1]).run(x)
    return {
        "importing": imported - begin,
        "loading": loaded - imported,
        "first_output": time.perf_counter() - loaded,
        "imported_bytes": imported_bytes,
        "peak_bytes": _peak(),
    }


def _peak() -> int | None:
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
