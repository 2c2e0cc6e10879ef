"""From an artifact, and a task if need be, to something that can be run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import eqnet.runtime
from eqnet.deploy.inputs import Taken
from eqnet.deploy.origin import Origin
from eqnet.errors import InputError, RunError
from eqnet.packed.architecture import is_known
from eqnet.packed.artifact import Artifact
from eqnet.packed.model import PackedModel
from eqnet.packed.replacing import places
from eqnet.run import MANIFEST
from eqnet.runtime.engines.packed import PackedRunner
from eqnet.runtime.opening import is_file_of_engine
from eqnet.runtime.runner import Runner
from eqnet.tasks import BUILT_IN, Task, load_task

CACHE = Path("runs/float")
"""Where the task of an artifact keeps its files unless the user says otherwise."""

_RESULT = "result.json"


@dataclass(frozen=True)
class Deployed:
    """An artifact, opened.

    Attributes:
        path: where it is.
        runner: what runs it.
        origin: what the artifact says of itself; None if it does not.
        task: what the user named, or the built-in one that the artifact is of; None if neither.
    """

    path: Path
    runner: Runner
    origin: Origin | None
    task: Task | None

    @property
    def packed(self) -> PackedModel | None:
        """The packed model of a folder; None of other forms."""
        return self.runner.packed if isinstance(self.runner, PackedRunner) else None

    @property
    def taken(self) -> Taken | None:
        """What it takes; None if it does not say, or takes several inputs."""
        if self.origin is not None:
            return Taken(self.origin.shape, self.origin.dtype, self.origin.normalization)
        if len(self.runner.inputs) != 1:
            return None
        spec = self.runner.inputs[0]
        known = tuple(size for size in spec.shape[1:] if size is not None)
        return Taken(known if len(known) == len(spec.shape) - 1 else None, spec.dtype)


def is_artifact(path: Path) -> bool:
    """Whether ``path`` is to be read as an artifact, and not as the folder of a run."""
    if is_file_of_engine(path) or path.is_file():
        return True
    if any((path / name).exists() for name in (MANIFEST, _RESULT)):
        return False
    return any(found.exists() for found in places(path, "config.json")) or any(path.glob("model*.safetensors"))


def open_artifact(
    path: Path,
    task: str | None = None,
    *,
    cache: Path = CACHE,
    exact: bool = True,
    threads: int | None = None,
    with_task: bool = False,
) -> Deployed:
    """Opens an artifact; no Python code that it names is ever imported, only that which the user names.

    Args:
        path: of a folder that ``eqnet export`` or ``PackedModel.save`` wrote, or of a file; see ``eqnet.runtime.open``.
        task: as ``load_task`` reads it, for a model that eqnet cannot build by itself: the task's model is taken.
        cache: folder that the task may keep files in.
        exact: see ``eqnet.runtime.open``.
        threads: see ``eqnet.runtime.open``.
        with_task: whether the task's data is needed.

    Raises:
        RunError: a file is missing or damaged.
        InputError: the task is needed, or is another one than the artifact's.
        MissingPackageError: what runs it is not installed.
    """
    if path.is_file() or is_file_of_engine(path):
        runner = eqnet.runtime.open(path, exact=exact, threads=threads)
        origin = _origin(path, runner.record.metadata if runner.record is not None else None)
        return Deployed(path, runner, origin, _task(path, origin, task, cache, with_task))
    artifact = Artifact.open(path)
    record = artifact.config.get("quantization_config")
    origin = _origin(path / "config.json", record.get("metadata") if isinstance(record, dict) else None)
    loaded = _task(path, origin, task, cache, with_task)
    if not is_known(artifact.config) and loaded is None:
        raise _unknown_model(path, origin)
    model = None if is_known(artifact.config) or loaded is None else loaded.model
    return Deployed(path, eqnet.runtime.open(path, exact=exact, threads=threads, model=model), origin, loaded)


def _task(path: Path, origin: Origin | None, task: str | None, cache: Path, needed: bool) -> Task | None:
    if task is None:
        return own_task(path, origin, cache) if needed else None
    loaded = load_task(task, cache=cache, seed=origin.seed if origin else 0, trained=False)
    if origin is not None and loaded.name != origin.name:
        raise InputError(
            f"{path}: was made for the task '{origin.name}', not '{loaded.name}'; give --task {origin.task}"
        )
    return loaded


def _unknown_model(path: Path, origin: Origin | None) -> InputError:
    if origin is None:
        return InputError(f"{path}: holds a model that eqnet cannot build by itself; give --task, the task it is of")
    return InputError(
        f"{path}: its model is that of the task '{origin.task}', code that eqnet does not run by itself; if you "
        f"trust it, give --task {origin.task}, or model= to eqnet.load"
    )


def _origin(path: Path, metadata: object) -> Origin | None:
    try:
        return Origin.from_json(metadata)
    except InputError as e:
        raise RunError(f"{path}: {e}; the file is damaged, export again") from e


def own_task(path: Path, origin: Origin | None, cache: Path) -> Task:
    """The built-in task that an artifact is of; raises InputError if it says none, or one of another's code."""
    if origin is None:
        raise InputError(f"{path}: does not say what task it is of; give --task")
    if origin.task not in BUILT_IN:
        raise InputError(
            f"{path}: is of the task '{origin.task}', code that eqnet does not run by itself; if you trust it, give "
            f"--task {origin.task}"
        )
    return load_task(origin.task, cache=cache, seed=origin.seed, trained=False)
