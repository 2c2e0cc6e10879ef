"""Weights in a GGUF file, dequantized one by one; names and order of values as transformers has them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.lm.weights.gguf_header import GgufHeader

_PIECE = 1 << 20
"""Bytes that are dequantized at a time, which takes several times as much memory."""


class GgufWeights:
    """The tensors of a GGUF file, by their names in the model of transformers.

    llama.cpp keeps some tensors in another form (the rows of q and k of Llama are permuted, the norms of Gemma have 1
    added); what undoes that is transformers' own.

    Attributes:
        files: the one file.
        keys: names in the model.
    """

    def __init__(self, path: Path, model: Any) -> None:
        """Reads the header.

        Args:
            path: of the file.
            model: of transformers, for its configuration and the names of its tensors; it may be on the meta device.

        Raises:
            MissingPackageError: gguf or transformers is not installed.
            InputError: the two have no way to read this architecture, or the file is one of several parts.
            RunError: the file is damaged.
        """
        try:
            from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
            from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor
        except ImportError as e:
            raise MissingPackageError(f"{path}: reading it takes gguf ({e}); pip install 'eqnet[hf]'") from e
        self._sizes, self._kind, self._dequantize = GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
        self._header = GgufHeader(path)
        architecture = str(self._header.entries.get("general.architecture"))
        made = TENSOR_PROCESSORS.get(architecture, TensorProcessor)
        self._processor = made(config=model.config.to_dict())
        self._names = _names(path, architecture, model, self._processor)
        self._home: dict[str, list[str]] = {}
        for name in self._header.tensors:
            key = self._names.get(name, self._names.get(name.removesuffix(".weight")))
            if key is not None:
                self._home.setdefault(key, []).append(name)
        self.files, self.keys = [path], frozenset(self._home)

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Of a tensor, which is not read; None if it is made of several."""
        names = self._home[key]
        return self._header.tensors[names[0]].shape if len(names) == 1 else None

    def read(self, key: str) -> Tensor:
        """A tensor in float32, in memory of its own.

        Raises:
            RunError: the file ends before the tensor does, or its type is unknown to gguf.
        """
        found: dict[str, dict[str, Tensor]] = {"tensors": {}}
        for name in self._home[key]:
            processed = self._processor.process(
                weights=self._dequantized(name), name=name, tensor_key_mapping=self._names, parsed_parameters=found
            )
        if found["tensors"]:  # what is made of several tensors is put there
            return next(iter(found["tensors"].values())).float()
        return torch.from_numpy(np.require(processed.weights, np.float32, ["C", "W"]))

    def _dequantized(self, name: str) -> Any:
        """A tensor as the file orders it, float32."""
        tensor = self._header.tensors[name]
        try:
            kind = self._kind(tensor.kind)
            block, nbytes = self._sizes[kind]
            rows = tensor.shape[:-1]
            row = tensor.shape[-1] // block * nbytes
            count = math.prod(rows)
            stored = np.frombuffer(self._header.data, np.uint8, count * row, tensor.offset).reshape(count, row)
            values = np.empty((count, tensor.shape[-1]), np.float32)
            step = max(1, _PIECE // max(1, row))
            for start in range(0, count, step):
                values[start : start + step] = self._dequantize(stored[start : start + step], kind)
            return values.reshape(tensor.shape)
        except NotImplementedError as e:
            raise RunError(
                f"{self.files[0]}: tensor '{name}' is of a type that the package gguf cannot read ({e}); upgrade it, "
                "or take a file of another type"
            ) from e
        except (ValueError, KeyError) as e:
            raise RunError(f"{self.files[0]}: tensor '{name}' cannot be read ({e}); copy the file anew") from e


def _names(path: Path, architecture: str, model: Any, processor: Any) -> dict[str, str]:
    """Names in the model, by the names that llama.cpp gives them."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    known = {name: number for number, name in MODEL_ARCH_NAMES.items()}
    if architecture not in known:
        raise InputError(f"{path}: gguf has no names for the tensors of '{architecture}'; upgrade the package gguf")
    config, prefix = model.config, f"{model.base_model_prefix}."
    theirs = get_tensor_name_map(known[architecture], config.get_text_config().num_hidden_layers)
    names: dict[str, str] = {}
    for stored in model.state_dict():
        name = processor.preprocess_name(stored)
        stem, dot, leaf = name.rpartition(".")
        if leaf not in ("weight", "bias"):
            stem, dot, leaf = name, "", ""
        found = theirs.get_name(stem) or theirs.get_name(stem.removeprefix(prefix))
        if found is not None:
            names[found + dot + leaf] = name
        else:
            processor.perform_fallback_tensor_mapping(names, dot + leaf, "", name)
    return names
