"""What to say when code that the user gave fails or returns the wrong thing."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eqnet.errors import EqnetError, InputError

_LIBRARIES = (
    "<frozen",
    f"{Path(__file__).parents[1]}{os.sep}",
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)
"""Beginnings of the file names of code that is not the user's."""


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Words the failure of a user's code; eqnet's own errors pass as they are."""
    try:
        yield
    except EqnetError:
        raise
    except (Exception, SystemExit) as e:
        text = e.msg if isinstance(e, SyntaxError) else e  # its str() has the line a second time
        message = f"{type(e).__name__}: {text}".removesuffix(": ")
        raise InputError(f"{action} raised {message} ({_where(e)}); correct it there") from e


def _where(error: BaseException) -> str:
    """File and line of the innermost of the user's own lines, or of the innermost at all if none is."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def kind_of(value: Any) -> str:
    """What kind of thing ``value`` is, with its article."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
