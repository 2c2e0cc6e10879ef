"""A causal language model as it was published: its configuration, and its weights, read one by one.

Nothing is fetched, no code of the model's folder is run, and no pickle is read. Weights stay in their mapped files
until they are asked for, so that a model can be gone through block by block in the memory of one block.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eqnet.errors import InputError
from eqnet.lm.opening import causal_class, read_config, transformers_of
from eqnet.lm.weights import GgufWeights, SafetensorsWeights
from eqnet.lm.weights.gguf_reading import fast_reading
from eqnet.packed.architecture import without_memory
from eqnet.packed.plain_layers import FLAG, conv1d_layers, with_plain_layers

COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
"""Files that travel along with a model, if its folder has them."""

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


class Weights(Protocol):
    """What a source reads from.

    Attributes:
        files: all of them.
        keys: names of the tensors in the files.
    """

    files: list[Path]
    keys: frozenset[str]

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Of one tensor; None if it is made of several."""

    def read(self, key: str) -> Tensor:
        """One tensor in floating point, in memory of its own."""


class Source:
    """A causal language model in its files; use ``open_source``.

    Attributes:
        path: of the folder or the ``.gguf`` file.
        name: for people.
        config: transformers' configuration; leave it as it is.
        names: of all parameters and stored buffers, as the model's state dict has them; tied ones under each name.
        tied: names of the tensors that are another one, and the name of that one.
    """

    def __init__(self, path: Path, config: Any, model_class: Any, weights: Weights) -> None:
        self.path, self.config = path, config
        self.name = path.resolve().stem if path.is_file() else path.resolve().name
        self._class, self._weights = model_class, weights
        model = self.skeleton()
        self._turned = frozenset(f"{name}.weight" for name in self._conv1d)
        self.names = tuple(model.state_dict())
        self.tied = _tied(model)
        self._keys = _resolved(path, model, self.names, self.tied, weights)

    def __repr__(self) -> str:
        return f"Source({str(self.path)!r}, {self._class.__name__})"

    def fingerprint(self) -> str:
        """A hash of the configuration, and of sizes, headers and evenly spread samples of the files, 16 digits."""
        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True, default=str).encode())
        for path in self._weights.files:
            size = path.stat().st_size
            digest.update(size.to_bytes(8, "little"))
            with path.open("rb") as file:
                for index in range(_SAMPLES):
                    file.seek(index * max(size - _SAMPLE_BYTES, 0) // (_SAMPLES - 1))
                    digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()[:16]

    def first_of(self, path: str) -> str:
        """Of the layers that share the weight of one, the path of the first."""
        return self.tied.get(f"{path}.weight", f"{path}.weight").removesuffix(".weight")

    def tensor(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of ``names``, read now into memory of its own.

        Raises:
            InputError: there is no such tensor.
            RunError: its file cannot be read.
        """
        tensor = self._weights.read(self._key(name))
        return (tensor.T if name in self._turned else tensor).to(dtype).contiguous()

    def skeleton(self) -> Any:
        """The model without weights: parameters on the meta device, tied ones tied, buffers real, in eval mode."""
        config = copy.deepcopy(self.config)
        with_weights_elsewhere = without_memory(lambda: self._class(config))
        self._conv1d: list[str] = conv1d_layers(with_weights_elsewhere) if getattr(config, FLAG, False) else []
        model: Any = with_plain_layers(with_weights_elsewhere)
        model.tie_weights()
        model.generation_config = self._generation_config(model)
        return model.eval()

    def fill(
        self, module: nn.Module, prefix: str, dtype: torch.dtype = torch.float32, without: Collection[str] = ()
    ) -> None:
        """Gives a submodule of a skeleton its weights, and what is tied to them the same.

        Args:
            module: the skeleton itself, or a part of it.
            prefix: its path in the skeleton, "" for the skeleton itself.
            dtype: of the weights.
            without: names of weights that are left to be filled by others.
        """
        for name, parameter in module.named_parameters():
            full = _join(prefix, name)
            left = full in without
            self._swap(parameter, torch.empty(parameter.shape, dtype=dtype) if left else self.tensor(full, dtype))
        persistent = module.state_dict(keep_vars=True)
        for name, buffer in module.named_buffers():
            if name in persistent and _join(prefix, name) in self._keys:
                buffer.copy_(self.tensor(_join(prefix, name), buffer.dtype))

    def empty(self, module: nn.Module) -> None:
        """Takes the weights of a submodule of a skeleton away again; buffers stay."""
        for parameter in module.parameters():
            self._swap(parameter, parameter.detach().to("meta"))

    def load(self, dtype: torch.dtype = torch.float32, without: Collection[str] = ()) -> Any:
        """The whole model with its weights but those that ``without`` names, in eval mode."""
        model = self.skeleton()
        self.fill(model, "", dtype, without)
        return model

    def tokenizer(self) -> Any:
        """Transformers' tokenizer of the model, or None if its files have none."""
        from transformers import AutoTokenizer

        folder, extra = self._location()
        if not extra and not any((folder / name).is_file() for name in COMPANIONS[:9]):
            return None
        try:
            with fast_reading():
                return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **extra)
        except (OSError, ValueError, KeyError, TypeError, ImportError):
            return None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that the model, its tokenizer among it, is read from, but for its configuration."""
        return (*self._weights.files, *self.companions)

    @property
    def companions(self) -> tuple[Path, ...]:
        """Files that travel along with the model: tokenizer, chat template, generation configuration, license."""
        folder, extra = self._location()
        if extra:
            return ()
        named = [folder / name for name in COMPANIONS]
        return tuple(path for path in [*named, *sorted(folder.glob("LICENSE*"))] if path.is_file())

    def _location(self) -> tuple[Path, dict[str, str]]:
        """The folder, and what transformers' functions are to be told beside it."""
        return (self.path.parent, {"gguf_file": self.path.name}) if self.path.is_file() else (self.path, {})

    def _generation_config(self, model: Any) -> Any:
        from transformers import GenerationConfig

        folder, extra = self._location()
        if extra or not (folder / "generation_config.json").is_file():
            return model.generation_config
        try:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as e:
            raise InputError(f"{folder / 'generation_config.json'}: cannot be read ({e}); mend or remove it") from e

    def _key(self, name: str) -> str:
        if name not in self._keys:
            raise InputError(f"{self.path}: {self._class.__name__} has no stored tensor '{name}'")
        return self._keys[name]

    @staticmethod
    def _swap(parameter: Tensor, value: Tensor) -> None:
        """Puts ``value`` into the parameter itself, so that all that refer to it have it."""
        new = nn.Parameter(value, requires_grad=parameter.requires_grad)
        new.__dict__.update(parameter.__dict__)
        torch.utils.swap_tensors(parameter, new)  # type: ignore[no-untyped-call]


def open_source(path: str | Path) -> Source:
    """Opens a causal language model; of the weights nothing is read yet.

    Args:
        path: a folder with ``config.json`` and safetensors files, or a ``.gguf`` file.

    Raises:
        InputError: it is neither, weights or shards are missing, they are pickles or quantized already, or the model
            is of an unknown kind or no causal language model; the message says what to do.
        MissingPackageError: transformers, or for GGUF gguf, is not installed.
        RunError: a file is damaged.
    """
    path = Path(path)
    with _uncollected():
        transformers_of(path)
        with fast_reading():
            config = read_config(path)
        model_class = causal_class(path, config)
    model = without_memory(lambda: model_class(copy.deepcopy(config)))
    if conv1d_layers(model):
        setattr(config, FLAG, True)
    if path.is_file():
        weights: Weights = GgufWeights(path, model)
    else:
        weights = SafetensorsWeights(path)
    return Source(path, config, model_class, weights)


@contextmanager
def _uncollected() -> Iterator[None]:
    """While it lasts, nobody looks for garbage: what is imported stays, and looking through it again and again takes a
    fifth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _tied(model: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            tied[name] = first[id(parameter)]
    return tied


def _resolved(
    path: Path, model: Any, names: tuple[str, ...], tied: Mapping[str, str], weights: Weights
) -> dict[str, str]:
    """Under which name the files have each tensor of the model."""
    prefix = f"{model.base_model_prefix}."
    keys = {}
    for name in names:
        for key in (name, name.removeprefix(prefix)):
            if key in weights.keys:
                keys[name] = key
                break
    for name, first in tied.items():
        if first in keys:
            keys[name] = keys[first]
        elif name in keys:
            keys[first] = keys[name]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    missing = [name for name in parameters if name not in keys]
    if missing:
        raise InputError(
            f"{path}: the weights have no '{missing[0]}' ({len(missing)} of the {len(parameters)} tensors of a "
            f"{type(model).__name__} are missing); copy the whole model anew, or check 'architectures' in config.json"
        )
    for name, parameter in parameters.items():
        found = weights.shape(keys[name])
        if found is not None and tuple(parameter.shape) not in (found, found[::-1]):
            raise InputError(
                f"{path}: tensor '{name}' is of shape {found}; config.json says {tuple(parameter.shape)}: "
                "the two are not of one model"
            )
    return keys


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}".strip(".")
