"""From a folder to the packed model in it; the model in floating point is never held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from eqnet.errors import InputError, RunError
from eqnet.packed.architecture import skeleton
from eqnet.packed.artifact import Artifact
from eqnet.packed.layers import PACKED, ChannelAffine, InputRange, PackedLayer
from eqnet.packed.layers.base import PARTS
from eqnet.packed.layers.norm import into_identity
from eqnet.packed.model import PackedModel
from eqnet.packed.record import LayerRecord
from eqnet.packed.tensor import PackedTensor
from eqnet.tracing import is_affine


def load(
    folder: str | Path, model: nn.Module | Callable[[], nn.Module] | None = None, *, compute: str = "float"
) -> PackedModel:
    """The packed model that ``PackedModel.save`` wrote; its tensors stay on the mapped memory of their files.

    Args:
        folder: of ``config.json``.
        model: the model that was made elastic, or a function that makes it; its weights do not matter, and it is not
            changed. Needed for all but eqnet's own networks and the models of Hugging Face's transformers.
        compute: ``float``, or ``int8``, which is faster and less exact (see ``PackedModel.compute``).

    Raises:
        RunError: a file is missing, damaged or newer than this eqnet, or its tensors are not those of the model; the
            message names file and tensor.
        InputError: the model is of another class than the stored one, ``model`` is needed, or ``compute`` is unknown.
        MissingPackageError: the model is one of transformers, which is not installed.
    """
    return load_from(Artifact.open(folder), model, compute=compute)


def load_from(
    artifact: Artifact, model: nn.Module | Callable[[], nn.Module] | None = None, *, compute: str = "float"
) -> PackedModel:
    """The packed model of an opened artifact; see ``load``."""
    path = artifact.folder / "config.json"
    record, tied = artifact.record()
    with artifact.checking(torch.get_num_threads()):
        made = skeleton(artifact.config, path, model)
    tensors = _Tensors(artifact, tied)
    for name, layer in record.layers.items():
        _pack(_module(made, name, path), name, layer, tensors, path)
    for name in record.affine:
        norm = _batch_norm(made, name, path)
        ChannelAffine.convert(norm, *(tensors.vector(name, part, norm) for part in ("scale", "shift")))
    for name in record.folded:
        into_identity(_batch_norm(made, name, path))
    _assign(made, tensors)
    for name, dtype in record.remade.items():
        _convert(made, name, getattr(torch, dtype), path)
    unknown = sorted(set(artifact.names) - {tied.get(name, name) for name in made.state_dict()})
    if unknown:
        raise RunError(
            f"{artifact.folder}: {type(made).__name__} has no place for tensor '{unknown[0]}'; load another model"
        )
    return PackedModel(made, record, compute)


class _Tensors:
    """The tensors of an artifact, each as one object however many names it has."""

    def __init__(self, artifact: Artifact, tied: Mapping[str, str]) -> None:
        self._artifact, self._tied = artifact, tied
        self._parameters: dict[str, nn.Parameter] = {}
        self._tensors: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return self._tied.get(name, name) in self._artifact.specs

    def tensor(self, name: str) -> Tensor:
        """Raises RunError, naming folder and tensor, if there is none."""
        first = self._tied.get(name, name)
        if first not in self._tensors:
            self._tensors[first] = self._artifact.tensor(first)
        return self._tensors[first]

    def parameter(self, name: str) -> nn.Parameter:
        first = self._tied.get(name, name)
        if first not in self._parameters:
            self._parameters[first] = nn.Parameter(self.tensor(name), requires_grad=False)
        return self._parameters[first]

    def vector(self, module: str, part: str, norm: nn.Module) -> Tensor:
        """One number for each channel of a batch norm."""
        name, expected = _join(module, part), norm.get_buffer("running_mean").shape
        tensor = self.tensor(name)
        if tensor.dtype != torch.float32 or tensor.shape != expected:
            found = f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
            raise self.wrong(name, f"is {found}; the model's is float32 of shape {tuple(expected)}")
        return tensor

    def wrong(self, name: str, what: str) -> RunError:
        return RunError(f"{self._artifact.folder}: tensor '{self._tied.get(name, name)}' {what}")


def _module(made: nn.Module, name: str, path: Path) -> nn.Module:
    try:
        return made.get_submodule(name)
    except AttributeError as e:
        raise InputError(
            f"{path}: {type(made).__name__} has no module '{name}' ({e}); give the model that was packed"
        ) from e


def _batch_norm(made: nn.Module, name: str, path: Path) -> nn.Module:
    module = _module(made, name, path)
    if not is_affine(module):
        raise InputError(
            f"{path}: '{name}' is a {type(module).__name__}; expected a batch norm with running statistics; "
            "give the model that was packed"
        )
    return module


def _pack(module: nn.Module, name: str, layer: LayerRecord, tensors: _Tensors, path: Path) -> None:
    """Makes ``module`` itself packed, on the mapped tensors."""
    packed_class = PACKED.get(type(module))
    weight = getattr(module, "weight", None)
    found = type(module).__name__, tuple(weight.shape) if isinstance(weight, Tensor) else None
    if packed_class is None or packed_class.kind is not type(module) or found != (layer.kind, layer.shape):
        raise InputError(
            f"{path}: layer '{name}' is a {found[0]} with a weight of shape {found[1]}; stored is a {layer.kind} with "
            f"one of {layer.shape}: give the model that was packed"
        )
    rows, cols = packed_class.elastic.to_matrix(module, torch.empty(layer.shape, device="meta")).shape

    def part(leaf: str) -> Tensor:
        return tensors.tensor(_join(name, leaf))

    try:
        zero_point = None if layer.weight.symmetric else part("zero_point")
        matrix = PackedTensor(layer.weight, rows, cols, part("codes"), part("scale"), zero_point)
        bias = part("bias") if _join(name, "bias") in tensors else None
        input_range = None
        if layer.input is not None:
            input_range = InputRange(layer.input, part("input_scale"), part("input_zero_point").to(torch.int16))
        packed_class.convert(module, name, matrix, bias, input_range, getattr(torch, layer.dtype))
    except InputError as e:
        raise RunError(f"{path.parent}: layer '{name}': {e}; the artifact is damaged or of another model") from e


def _assign(made: nn.Module, tensors: _Tensors) -> None:
    """Puts the stored tensors in the place of all parameters and buffers but those of the packed layers."""
    for path, module in made.named_modules():
        # Non-persistent buffers are made anew with the model.
        done = {*module._non_persistent_buffers_set, *(PARTS if isinstance(module, PackedLayer) else ())}
        for members, get in ((module._parameters, tensors.parameter), (module._buffers, tensors.tensor)):
            for leaf, present in members.items():
                if present is None or leaf in done:
                    continue
                name = _join(path, leaf)
                found = get(name)
                if found.shape != present.shape:
                    raise tensors.wrong(
                        name, f"is of shape {tuple(found.shape)}; the model's is of {tuple(present.shape)}"
                    )
                members[leaf] = found


def _convert(made: nn.Module, name: str, dtype: torch.dtype, path: Path) -> None:
    """Gives a buffer that was made anew the type that it had."""
    owner, _, leaf = name.rpartition(".")
    module = _module(made, owner, path)
    buffer = module._buffers.get(leaf)
    if buffer is None or leaf not in module._non_persistent_buffers_set:
        raise InputError(f"{path}: {type(made).__name__} has no buffer '{name}'; give the model that was packed")
    module._buffers[leaf] = buffer.to(dtype)


def _join(path: str, leaf: str) -> str:
    return f"{path}.{leaf}".lstrip(".")
