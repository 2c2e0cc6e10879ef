"""Replacing the files of a folder, all or none, though each is renamed by itself.

New files are written into a hidden folder inside. Renaming that folder is the one step that decides: from then on the
files in it count, and those beside it with the same names do not. Only then are they moved up, one by one. A process
killed before the step leaves the old files and rubbish; one killed after it leaves the new files, some of them still
in the hidden folder, where readers look first (``places``). The next writer removes the one and finishes the other.
Other files in the folder, and the folder itself (it may be a mount point), stay as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from eqnet.errors import RunError
from eqnet.files import unwritable

try:
    import fcntl
except ImportError:  # Windows has no flock; there two writers are not kept apart
    fcntl = None  # type: ignore[assignment]

WRITING, WRITTEN = ".eqnet-writing", ".eqnet-written"


def places(folder: Path, name: str) -> tuple[Path, Path]:
    """Where the file ``name`` of ``folder`` may be; the first that exists counts."""
    return folder / WRITTEN / name, folder / name


def temporary(path: Path) -> bool:
    """Whether ``path`` is one of the hidden folders."""
    return path.name in (WRITING, WRITTEN)


@contextlib.contextmanager
def replacing(
    folder: Path, last: str, check: Callable[[], None], stale: Callable[[Path], Iterable[Path]]
) -> Iterator[Path]:
    """Gives a folder to write into; when the block ends well, its files replace those in ``folder``.

    Args:
        folder: made if need be.
        last: name of the file that is moved last; it is there until all the others are in place.
        check: raises if the files that are there may not be replaced.
        stale: the old files that are to go, given where the new ``last`` is; all other new files are in place by then.

    Raises:
        RunError: the folder cannot be written, or another process is writing it; the old files stay.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _finish(folder, last, stale)
            _remove(folder / WRITING)
            check()
            try:
                (folder / WRITING).mkdir()
                yield folder / WRITING
                _sync(folder / WRITING)
                (folder / WRITING).rename(folder / WRITTEN)
                _sync(folder)
            finally:
                _remove(folder / WRITING)  # there still only if something failed, Ctrl-C included
            _finish(folder, last, stale)
    except OSError as e:
        raise unwritable(folder, e) from e
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # goes only if nothing was written


def _finish(folder: Path, last: str, stale: Callable[[Path], Iterable[Path]]) -> None:
    """Moves up what was written, once that was decided."""
    written = folder / WRITTEN
    if written.is_symlink() or not written.is_dir():
        return
    if (written / last).exists():
        for path in sorted(written.iterdir()):
            if path.name != last:
                path.replace(folder / path.name)
        for path in stale(written / last):
            path.unlink()
        (written / last).replace(folder / last)
        _sync(folder)
    written.rmdir()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other writers out; the system lets them in again when the process dies."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            raise RunError(f"{folder}: another process is writing it; wait for it, or choose another folder") from e
        # Some network file systems lock no folders; two writers are not kept apart there.
    try:
        yield
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    """Makes the names in a folder outlast a power failure, where the system can do that."""
    if fcntl is None:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system syncs folders
            os.fsync(handle)
    finally:
        os.close(handle)
