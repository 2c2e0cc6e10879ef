"""Writing files so that a killed process leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from eqnet.errors import RunError


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a temporary file beside ``path`` and renames it over ``path``.

    Raises:
        RunError: the folder cannot be written or the disk is full; the message names the path.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as e:
        raise unwritable(path, e) from e
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)  # there still only if something failed, Ctrl-C included


def unwritable(path: Path, error: OSError) -> RunError:
    """What to raise if writing ``path`` failed with ``error``."""
    return RunError(f"{path}: cannot be written ({error.strerror or error}); free some space or choose another folder")


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Removes what killed processes left of writing the files ``names`` in ``folder``; none may be writing them now.

    Raises:
        RunError: a file cannot be removed.
    """
    for name in names:
        for path in folder.glob(f".{name}.*"):
            try:
                path.unlink(missing_ok=True)
            except OSError as e:
                raise RunError(f"{path}: cannot be removed ({e.strerror or e})") from e


def check_writable(path: Path) -> None:
    """Raises RunError if a file cannot be written there: before work that takes a while."""
    if path.is_dir():
        raise RunError(f"{path}: is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as e:
        raise unwritable(path, e) from e


def check_folder_writable(folder: Path) -> None:
    """Raises RunError if a folder cannot be made and written there: before work that takes a while; makes nothing."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as e:
        raise unwritable(folder, e) from e
