"""Opening the files of an artifact: those in its folder, and no others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from eqnet.errors import RunError
from eqnet.packed import strict_json
from eqnet.packed.replacing import places

CONFIG = "config.json"

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
_SHOWN = 5  # names in a message


def opened(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    """Opens a file of an artifact, which must not be a link that leads out of the folder.

    Returns:
        Where it is, and the file, open for reading.

    Raises:
        RunError: it is missing, no file, or cannot be read.
    """
    try:
        for path in places(folder, name):
            if not _is_inside(path.resolve(), folder):
                raise RunError(f"{path}: is a link to {path.resolve()}, out of the artifact; put the file itself there")
            try:
                handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise RunError(f"{path}: is a folder or a device where a file is expected")
            return path, os.fdopen(handle, "rb")
        raise RunError(_why_missing(folder, name))
    except (OSError, RuntimeError, ValueError) as e:  # a loop of links is a RuntimeError, a zero byte a ValueError
        raise RunError(f"{folder / name}: cannot be read ({getattr(e, 'strerror', None) or e})") from e


def read(folder: Path, name: str) -> tuple[Path, bytes]:
    """Where the file is, and its content, of which what is beyond the longest JSON is left out.

    Raises:
        RunError: it cannot be read.
    """
    path, file = opened(folder, name)
    with file:
        try:
            return path, file.read(strict_json.MAX_BYTES + 1)
        except OSError as e:
            raise RunError(f"{path}: cannot be read ({e.strerror or e})") from e


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _is_inside(path: Path, folder: Path) -> bool:
    if path.is_relative_to(folder.resolve()):
        return True
    # A download in Hugging Face's cache: snapshots/REVISION/FILE is a link to ../../blobs/HASH.
    return folder.resolve().parent.name == "snapshots" and path.parent == folder.resolve().parents[1] / "blobs"


def _why_missing(folder: Path, name: str) -> str:
    if not folder.exists():
        return f"{folder}: there is no such folder; give one that 'eqnet export --to eqnet' wrote"
    files = [folder] if not folder.is_dir() else sorted(folder.iterdir())
    pickles = [path for path in files if path.suffix in _PICKLES]
    if name == CONFIG and pickles:
        return (
            f"{pickles[0]}: is a pickle, and eqnet reads no pickles, as they can run any code; "
            "give a folder that 'eqnet export --to eqnet' wrote"
        )
    if not folder.is_dir():
        return f"{folder}: is a file; give the folder that holds {CONFIG} and the safetensors files"
    if name == CONFIG:
        found = some(path.name for path in files) if files else "nothing"
        return f"{folder}: has no {CONFIG} and so is not an artifact (found {found}); export again"
    return f"{folder / name}: is missing, though {CONFIG} names it; copy the whole folder anew or export again"
