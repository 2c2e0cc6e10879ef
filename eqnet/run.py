"""A run: one task, its supernet, and the folder in which both are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eqnet.choices import Choices
from eqnet.conversion import elasticize
from eqnet.data import calibration_inputs, fingerprint
from eqnet.errors import InputError, RunError
from eqnet.files import remove_unfinished, write_atomically
from eqnet.lock import RunLock
from eqnet.supernet import Supernet
from eqnet.tasks import Task, load_task
from eqnet.training import Options, train

MANIFEST = "run.json"
LANGUAGE_MANIFEST = "plan.json"
"""Of the run of a language model, which no task shares a folder with."""

KEPT = (
    MANIFEST,
    "checkpoint.safetensors",
    "training.jsonl",
    "measurements.sqlite",
    "measurements.sqlite-shm",
    "measurements.sqlite-wal",
    "latency.json",
    "result.json",
    "subnet.json",
    "report.html",
    "figures",
    "float",
)
"""What a run keeps in its folder, and all that starting over removes."""


@dataclass(frozen=True)
class Plan:
    """What decides a run's supernet.

    Attributes:
        task: as ``load_task`` reads it.
        space: as ``Choices.parse`` reads it.
        epochs: of supernet training; the task's own if None.
        seed: of everything that is drawn.
        precision: arithmetic of the training passes, ``fp32`` or ``bf16``.
    """

    task: str = "digits"
    space: str = "default"
    epochs: int | None = None
    seed: int = 0
    precision: str = "fp32"


class Run:
    """A run's folder, opened for this process alone; made if need be.

    Attributes:
        folder: where it is.
        plan: what it is of; the epochs are filled in.
        task: the loaded task.
        supernet: of the task's model; calibrated once ``train`` was called, and trained once it ended.
    """

    def __init__(self, folder: Path, plan: Plan, *, device: str | torch.device = "cpu", shared: bool = False) -> None:
        """Loads the task and makes its model elastic.

        Args:
            folder: of the run.
            plan: what the run is of.
            device: where the supernet lives.
            shared: for the further processes of one training run, whose first process has the folder open.

        Raises:
            RunError: the folder holds a run of something else, is in use, or cannot be written.
            InputError: the task or the space cannot be used.
        """
        self.folder = folder
        choices = Choices.parse(plan.space)
        self._lock = None if shared else RunLock(folder)
        try:
            self._manifest: dict[str, Any] = {
                "version": 1,
                "task": plan.task,
                "space": str(choices),
                "seed": plan.seed,
                "precision": plan.precision,
            }
            self._check()
            self.task: Task = load_task(plan.task, cache=folder / "float", seed=plan.seed)
            self.plan = replace(plan, epochs=self.task.epochs if plan.epochs is None else plan.epochs)
            self.supernet: Supernet = elasticize(self.task.model, choices, self.task.example_inputs()).to(device)
            self.options = Options(
                epochs=self.plan.epochs or 0,
                batch_size=self.task.batch_size,
                learning_rate=self.task.learning_rate,
                seed=plan.seed,
            )
            self._manifest |= {
                "training": self.options.identity(),
                "model": self.supernet.fingerprint(),
                "data": fingerprint(self.task),
            }
            self._check()
            if not shared:
                remove_unfinished(folder, KEPT)
            if not (folder / MANIFEST).exists():
                write_atomically(folder / MANIFEST, json.dumps(self._manifest, indent=2) + "\n")
        except BaseException:
            self.close()
            raise

    @classmethod
    def reopen(cls, folder: Path, device: str | torch.device = "cpu") -> Run:
        """Opens the run that ``folder`` holds; raises RunError if it holds none."""
        path = folder / MANIFEST
        if (folder / LANGUAGE_MANIFEST).exists():
            raise RunError(
                f"{folder}: holds the run of a language model; eqnet export it, and give the folder that that writes"
            )
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            plan = Plan(found["task"], found["space"], found["training"]["epochs"], found["seed"], found["precision"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise RunError(f"{folder}: holds no run of eqnet ({e!r}); make one with eqnet train or eqnet search") from e
        return cls(folder, plan, device=device)

    def close(self) -> None:
        """Lets other processes open the run."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def train(self, accelerator: Any = None, report: Callable[[str, int, int], None] | None = None) -> None:
        """Calibrates the supernet and trains it, or goes on from where a killed run stopped."""
        device = next(self.supernet.parameters()).device
        self.supernet.calibrate(calibration_inputs(self.task, device))
        if self.options.epochs:
            for progress in train(self.supernet, self.task, self.options, self.folder, accelerator):
                if report is not None:
                    report("Training the supernet", progress.step, progress.total)

    def _check(self) -> None:
        """Raises RunError if the manifest in the folder disagrees with what is known of this run so far."""
        path = self.folder / MANIFEST
        if (self.folder / LANGUAGE_MANIFEST).exists():
            raise RunError(f"{self.folder}: holds the run of a language model; choose another folder with --out")
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            different = [key for key, value in self._manifest.items() if found.get(key) != value]
        except (OSError, ValueError, AttributeError) as e:
            raise RunError(f"{path}: cannot be read as a run ({e}); start over with --fresh") from e
        if different:
            key = different[0]
            said = (
                f"{key} {found.get(key)!r}, not {self._manifest[key]!r}" if key in asdict(Plan()) else f"another {key}"
            )
            raise RunError(
                f"{self.folder}: holds a run with {said}; choose another folder with --out, or start over with --fresh"
            )


def clear(folder: Path, kept: Iterable[str] = KEPT) -> None:
    """Removes what a run keeps in ``folder``, and nothing else.

    Args:
        folder: of the run.
        kept: names of files and folders.

    Raises:
        RunError: another process has the run open, or a file cannot be removed.
        InputError: ``folder`` is a file.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder for the run")
    lock = RunLock(folder)
    try:
        names = tuple(kept)
        remove_unfinished(folder, names)
        for name in names:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as e:
        raise RunError(f"{folder}: cannot be cleared ({e.strerror or e})") from e
    finally:
        lock.release()
