"""From what the user writes for a task (``digits``, ``package.module:name``, ``./file.py:name``) to a checked Task."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from eqnet.errors import InputError
from eqnet.randomness import seeded
from eqnet.tasks.task import Task
from eqnet.tasks.user_code import explained, kind_of
from eqnet.tasks.validation import validate

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "digits": "eqnet.tasks.digits:digits",
        "fashion-mnist": "eqnet.tasks.fashion_mnist:fashion_mnist",
        "fashion-mnist-mobilenet": "eqnet.tasks.fashion_mnist:fashion_mnist_mobilenet",
    }
)
"""The tasks that eqnet comes with: name → module and factory, imported when asked for."""


def load_task(spec: str, *, cache: Path, seed: int, trained: bool = True) -> Task:
    """Finds, makes and checks a task.

    A factory is called with ``cache`` and ``seed`` if these are among its parameters. It runs with the global
    random generators seeded by ``seed``, and leaves them as they were: a split it draws is the same in every run.
    While it runs, modules in the current folder, or in that of the file, can be imported.

    Args:
        spec: name of a built-in task, ``package.module:name`` or ``./file.py:name``, where ``name`` is a Task or a
            function that returns one.
        cache: folder that the factory may keep files in.
        seed: of whatever the factory draws.
        trained: False if the weights of the task's model do not matter; a built-in task is then there at once.

    Raises:
        InputError: there is no such task, its code raises an exception (chained), or it fails ``validate``.
    """
    source, colon, name = BUILT_IN.get(spec, spec).rpartition(":")
    if not colon or not source or not name:
        raise InputError(_unknown(spec))
    is_file = source.endswith(".py") or "/" in source or "\\" in source
    file = Path(source).expanduser().resolve()
    with _importable(file.parent if is_file else Path.cwd()), seeded(seed):
        module = _module_of_file(spec, file) if is_file else _module(spec, source)
        own = {} if trained or spec not in BUILT_IN else {"trained": False}
        task = _make(spec, module, name, {"cache": cache, "seed": seed, **own})
        validate(task)
    return task


def _make(spec: str, module: ModuleType, name: str, offered: Mapping[str, Any]) -> Task:
    """The task that ``name`` of ``module`` is or returns."""
    factory = getattr(module, name, None)
    if isinstance(factory, Task):
        return factory
    if not callable(factory):
        if hasattr(module, name):
            raise InputError(f"task '{spec}': {name} is {kind_of(factory)}; name a Task or a function that returns one")
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, Task) or getattr(value, "__module__", None) == module.__name__
        ]
        there = f"it has {', '.join(own)}" if own else "it defines none"
        raise InputError(f"task '{spec}': its module has no {name}; {there}")
    arguments = _arguments(spec, factory, name, offered)
    with explained(f"task '{spec}': {name}()"):
        task = factory(**arguments)
    if not isinstance(task, Task):
        raise InputError(
            f"task '{spec}': {name}() returned {kind_of(task)}, not an eqnet.tasks.Task; "
            "return Task(name=…, model=…, train=…, validation=…, test=…)"
        )
    return task


def _arguments(spec: str, factory: Callable[..., Any], name: str, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``offered`` that are parameters of ``factory``."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # some callables written in C have no signature
        return {}
    taken = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} & set(offered)
    for p in parameters:
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in taken:
            raise InputError(
                f"task '{spec}': {name} needs the argument {p.name}, but eqnet passes only {' and '.join(offered)}; "
                "give it a default"
            )
    return {key: value for key, value in offered.items() if key in taken}


def _module(spec: str, source: str) -> ModuleType:
    try:
        with explained(f"task '{spec}': importing {source}"):
            return importlib.import_module(source)
    except InputError as e:
        missing = e.__cause__.name if isinstance(e.__cause__, ModuleNotFoundError) else None
        if missing is None or not f"{source}.".startswith(f"{missing}."):
            raise
        raise InputError(
            f"task '{spec}': there is no module {missing}, neither in {Path.cwd()} nor installed; "
            "check the name, or give a file as ./file.py:NAME"
        ) from e.__cause__


def _module_of_file(spec: str, file: Path) -> ModuleType:
    if not file.is_file():
        raise InputError(f"task '{spec}': there is no file {file}; check the path")
    name = f"eqnet_task_{file.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise InputError(f"task '{spec}': {file} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        with explained(f"task '{spec}': importing it"):
            found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _unknown(spec: str) -> str:
    if spec.endswith(".py"):
        return f"task '{spec}' lacks the name of a function in that file; give {spec}:NAME"
    close = difflib.get_close_matches(spec.lower(), BUILT_IN, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return (
        f"unknown task '{spec}'{guess}; built in are {', '.join(BUILT_IN)}; "
        "your own is given as package.module:NAME or ./file.py:NAME"
    )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets modules in ``folder`` be imported, as Python does for the folder of a script."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
