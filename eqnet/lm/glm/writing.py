"""A checkpoint written as artifacts of eqnet: one, or one for each process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from eqnet.errors import InputError, RunError
from eqnet.lm.glm.checkpoint import GlmCheckpoint, Part, Weight
from eqnet.lm.glm.floating import write_floating
from eqnet.lm.glm.layout import BIAS, WEIGHT
from eqnet.lm.glm.native import runs_natively, to_native
from eqnet.packed.artifact import write_artifact
from eqnet.packed.layout import Spec
from eqnet.packed.record import LayerRecord, Record, type_name
from eqnet.packed.tensor import PackedTensor

Report = Callable[[str, int, int], None]

SHARD_BYTES = 1_000_000_000
"""Of one file; so much is held while it is written."""

_TABLES = ("word_embeddings", "embed_tokens")
_COMPANIONS = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Imported:
    """What one process has of a checkpoint, written.

    Attributes:
        folder: in which it is.
        layers: the packed ones, by name; none in floating point.
        nbytes: of all tensors.
        architecture: the class of its model.
    """

    folder: Path
    layers: Mapping[str, LayerRecord]
    nbytes: int
    architecture: str


def write_glm(checkpoint: GlmCheckpoint, folder: str | Path, report: Report | None = None) -> tuple[Imported, ...]:
    """Writes a checkpoint, in the memory of a gigabyte and a weight.

    In one piece it is one folder. A ChatGLM2, ChatGLM3 or GLM-4 becomes transformers' own ``GlmForCausalLM``: quantized
    an artifact, which ``eqnet generate`` answers from, and in floating point a folder of transformers, which ``eqnet
    search --model`` starts from. Everything else keeps its names, for ``eqnet.load(FOLDER, model)`` with a model of
    your own whose layers are called so. In several parts it is folders ``rank-0``, ``rank-1``, ..., each an artifact of
    what that process has, under the checkpoint's own names.

    Args:
        checkpoint: see ``resharded`` for another number of parts.
        folder: new, or what this function wrote before.
        report: told (stage, done, total).

    Returns:
        What each process has.

    Raises:
        InputError: the checkpoint is in floating point and not to become transformers' model, or that cannot run it.
        MissingPackageError: transformers is not installed, and the checkpoint is to become its model.
        RunError: the folder holds something else or cannot be written, or a file of the checkpoint is damaged.
    """
    folder = Path(folder)
    native = checkpoint.degree == 1 and runs_natively(checkpoint)
    if checkpoint.sizes.bits is None and not native:
        raise InputError(
            f"{checkpoint.folder}: is in floating point, there is no ...weight_scale in it; eqnet imports weights that "
            "are quantized: of GLM-130B those that tools/convert_tp.py --quantization-bit-width 4 wrote"
        )
    folders = [folder] if checkpoint.degree == 1 else [folder / f"rank-{rank}" for rank in range(checkpoint.degree)]
    _check_free(folder, folders)
    imported = []
    for rank, (part, path) in enumerate(zip(checkpoint.parts, folders)):
        config, weights = to_native(checkpoint) if native else (_by_name(checkpoint, rank), part)
        stage = "Importing" if checkpoint.degree == 1 else f"Importing rank {rank}"
        architecture = config["architectures"][0] if native else checkpoint.kind.value
        tensors = _Tensors(weights, stage, report)
        if checkpoint.sizes.bits is None:
            write_floating(tensors, config, path, SHARD_BYTES)
        else:
            record = {**Record(tensors.layers, metadata={"glm": _origin(checkpoint, rank)}).to_json(), "tied": {}}
            config = {**config, "quantization_config": record}
            write_artifact(path, config, tensors, tensors.specs, shard_bytes=SHARD_BYTES)
        _copy_companions(checkpoint.folder, path)
        nbytes = sum(spec.nbytes for spec in tensors.specs.values())
        imported.append(Imported(path, tensors.layers, nbytes, architecture))
    return tuple(imported)


class _Tensors(Mapping[str, Tensor]):
    """The tensors of an artifact by name, each made when it is asked for; a packed weight is two of them.

    Attributes:
        specs: their types and shapes.
        layers: what the artifact says of its packed layers.
    """

    def __init__(self, weights: Part, stage: str, report: Report | None) -> None:
        self._weights, self._stage, self._report = weights, stage, report
        self._last: tuple[str, Weight] | None = None
        self._made = 0
        self._homes: dict[str, tuple[str, str]] = {}
        self.layers: dict[str, LayerRecord] = {}
        self.specs: dict[str, Spec] = {}
        for name in sorted(weights, key=lambda name: name.endswith(BIAS)):  # a layer before its bias
            self._outline(name, weights.outline(name))

    def _outline(self, name: str, weight: Weight) -> None:
        path = name.removesuffix(WEIGHT)
        if isinstance(weight, PackedTensor):
            self.layers[path] = _record(path, weight)
        for part in ("codes", "scale") if isinstance(weight, PackedTensor) else ("",):
            key = f"{path}.{part}" if part else name
            tensor = self._stored(name, weight, part)
            self._homes[key], self.specs[key] = (name, part), Spec(type_name(tensor.dtype), tuple(tensor.shape))

    def __getitem__(self, key: str) -> Tensor:
        name, part = self._homes[key]
        if self._last is None or self._last[0] != name:
            self._last = name, self._weights[name]
            self._made += 1
            if self._report is not None:
                self._report(self._stage, self._made, len(self._weights))
        return self._stored(name, self._last[1], part)

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def _stored(self, name: str, weight: Weight, part: str) -> Tensor:
        if isinstance(weight, PackedTensor):
            tensor: Tensor = getattr(weight, part)
            return tensor
        # Packed layers add their bias in float32, in which float16 and bfloat16 are exact.
        return weight.float() if name.endswith(BIAS) and name.removesuffix(BIAS) in self.layers else weight


def _record(path: str, weight: PackedTensor) -> LayerRecord:
    kind = "Embedding" if path.endswith(_TABLES) else "Linear"
    return LayerRecord(kind, weight.format, None, (weight.rows, weight.cols), type_name(weight.scale.dtype))


def _by_name(checkpoint: GlmCheckpoint, rank: int) -> dict[str, Any]:
    return {"architecture": {"class": checkpoint.kind.value, "rank": rank, "ranks": checkpoint.degree}}


def _origin(checkpoint: GlmCheckpoint, rank: int) -> dict[str, Any]:
    return {"kind": checkpoint.kind.value, "rank": rank, "ranks": checkpoint.degree, **asdict(checkpoint.sizes)}


def _check_free(folder: Path, folders: list[Path]) -> None:
    """Raises RunError if parts of another number of processes, or one artifact for all, lie beside the new ones."""
    others = {path for path in folder.glob("rank-*") if path not in folders}
    if others or (folder not in folders and (folder / "config.json").exists()):
        found = min(others).name if others else "config.json"
        raise RunError(f"{folder}: holds {found} of something else; choose a new folder")


def _copy_companions(source: Path, folder: Path) -> None:
    """Copies a tokenizer that needs no code of its own, and the settings of generation, if there are."""
    for name in _COMPANIONS:
        if (source / name).is_file() and (not name.startswith(("tok", "spec")) or (source / _COMPANIONS[1]).is_file()):
            shutil.copyfile(source / name, folder / name)
