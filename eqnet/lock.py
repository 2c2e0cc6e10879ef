"""One process at a time in a run's folder."""

from __future__ import annotations

import os
from pathlib import Path

from eqnet.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no flock; there the folder is not guarded
    fcntl = None  # type: ignore[assignment]


class RunLock:
    """Holds a folder until ``release``; the system releases it when the process dies, however it dies.

    Args:
        folder: made if need be.

    Raises:
        RunError: another process holds the folder (the message names it), or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / ".lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as e:
            raise RunError(
                f"{folder}: cannot be used as a run's folder ({e.strerror or e}); choose another with --out"
            ) from e
        if fcntl is not None:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                holder = os.pread(self._handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(self._handle)
                raise RunError(
                    f"{folder}: process {holder} is writing this run; wait for it, or choose another folder with --out"
                ) from e
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Lets others have the folder."""
        if self._handle >= 0:
            if fcntl is not None:
                fcntl.flock(self._handle, fcntl.LOCK_UN)  # a process that loads data may have the file open still
            os.close(self._handle)
            self._handle = -1
