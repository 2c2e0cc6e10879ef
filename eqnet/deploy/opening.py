"""From a folder, and a task if need be, to a packed model that can be run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eqnet.deploy.origin import Origin
from eqnet.errors import InputError, RunError
from eqnet.packed.architecture import is_known
from eqnet.packed.artifact import Artifact
from eqnet.packed.loading import load
from eqnet.packed.model import PackedModel
from eqnet.packed.replacing import places
from eqnet.run import MANIFEST
from eqnet.tasks import BUILT_IN, Task, load_task

CACHE = Path("runs/float")
"""Where the task of an artifact keeps its files unless the user says otherwise."""

_RESULT = "result.json"


@dataclass(frozen=True)
class Deployed:
    """An artifact, loaded.

    Attributes:
        folder: where it is.
        packed: the model.
        origin: what the artifact says of itself; None if it was saved without.
        task: what the user named, or the built-in one that the artifact is of; None if neither.
    """

    folder: Path
    packed: PackedModel
    origin: Origin | None
    task: Task | None


def is_artifact(folder: Path) -> bool:
    """Whether ``folder`` is to be read as an artifact, and not as the folder of a run."""
    if any((folder / name).exists() for name in (MANIFEST, _RESULT)):
        return False
    return any(path.exists() for path in places(folder, "config.json")) or any(folder.glob("model*.safetensors"))


def open_artifact(
    folder: Path, task: str | None = None, *, cache: Path = CACHE, compute: str = "float", with_task: bool = False
) -> Deployed:
    """Loads an artifact; no code that it names is ever imported, only that which the user names.

    Args:
        folder: that ``eqnet export`` or ``PackedModel.save`` wrote.
        task: as ``load_task`` reads it, for a model that eqnet cannot build by itself: the task's model is taken.
        cache: folder that the task may keep files in.
        compute: how products are taken where inputs stay in floating point; see ``eqnet.load``.
        with_task: whether the task's data is needed.

    Raises:
        RunError: a file is missing or damaged.
        InputError: the task is needed, or is another one than the artifact's.
    """
    artifact = Artifact.open(folder)
    origin = _origin(artifact)
    loaded = load_task(task, cache=cache, seed=origin.seed if origin else 0, trained=False) if task else None
    if loaded is None and with_task:
        loaded = _own_task(folder, origin, cache)
    if loaded is not None and origin is not None and loaded.name != origin.name:
        raise InputError(
            f"{folder}: was made for the task '{origin.name}', not '{loaded.name}'; give --task {origin.task}"
        )
    if is_known(artifact.config):
        return Deployed(folder, load(folder, compute=compute), origin, loaded)
    if loaded is None:
        if origin is None:
            raise InputError(
                f"{folder}: holds a model that eqnet cannot build by itself; give --task, the task it is of"
            )
        raise InputError(
            f"{folder}: its model is that of the task '{origin.task}', code that eqnet does not run by itself; if you "
            f"trust it, give --task {origin.task}, or model= to eqnet.load"
        )
    return Deployed(folder, load(folder, loaded.model, compute=compute), origin, loaded)


def _origin(artifact: Artifact) -> Origin | None:
    record = artifact.config.get("quantization_config")
    try:
        return Origin.from_json(record.get("metadata") if isinstance(record, dict) else None)
    except InputError as e:
        raise RunError(f"{artifact.folder / 'config.json'}: {e}; the file is damaged, export again") from e


def _own_task(folder: Path, origin: Origin | None, cache: Path) -> Task:
    if origin is None:
        raise InputError(f"{folder}: does not say what task it is of; give --task")
    if origin.task not in BUILT_IN:
        raise InputError(
            f"{folder}: is of the task '{origin.task}', code that eqnet does not run by itself; if you trust it, give "
            f"--task {origin.task}"
        )
    return load_task(origin.task, cache=cache, seed=origin.seed, trained=False)
