"""Weights in several files, and the file beside them that says which tensor is where, as Hugging Face's hub has it."""

from __future__ import annotations

import json
from pathlib import Path

from eqnet.errors import InputError, RunError


def indexed_files(index: Path) -> list[Path]:
    """The files that an index names, in order; each is in the folder of the index, and is there.

    Raises:
        InputError: a file is missing.
        RunError: the index cannot be read, or names none.
    """
    try:
        mapped = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(mapped.values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError(f"weight_map names {names[:3]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise RunError(
            f"{index}: is no index, and does not say in which files the weights are ({type(e).__name__}: {e}); copy it "
            "anew"
        ) from e
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"{index.parent / missing[0]}: is missing, though {index.name} names it ({len(missing)} of {len(names)} "
            "files are); copy the whole folder anew"
        )
    return [index.parent / name for name in names]
