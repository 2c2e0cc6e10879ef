"""Writing files so that a killed process leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from eqnet.errors import RunError


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a temporary file beside ``path`` and renames it over ``path``.

    Raises:
        RunError: the folder cannot be written or the disk is full; the message names the path.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as e:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise RunError(f"{path}: cannot be written ({e.strerror or e}); free some space or choose another folder") from e
