"""Weights in a GGUF file, dequantized one by one; names and order of values as transformers has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eqnet.errors import InputError, MissingPackageError, RunError


class GgufWeights:
    """The tensors of a GGUF file, by their names in the model of transformers.

    llama.cpp keeps some tensors in another form (the rows of q and k of Llama are permuted, the norms of Gemma have 1
    added); what undoes that is transformers' own.

    Attributes:
        files: the one file.
        keys: names in the model.
    """

    def __init__(self, path: Path, model: nn.Module) -> None:
        """Reads the header.

        Args:
            path: of the file.
            model: of transformers, for its configuration and the names of its tensors; it may be on the meta device.

        Raises:
            MissingPackageError: gguf or transformers is not installed.
            InputError: the two have no way to read this architecture tensor by tensor.
            RunError: the file is damaged.
        """
        try:
            from gguf import GGUFReader
            from transformers.modeling_gguf_pytorch_utils import (
                TENSOR_PROCESSORS,
                TensorProcessor,
                get_gguf_hf_weights_map,
            )
        except ImportError as e:
            raise MissingPackageError(f"{path}: reading it takes gguf ({e}); pip install 'eqnet[hf]'") from e
        try:
            reader = GGUFReader(path)
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            kind = str(reader.fields["general.architecture"].contents())
        except (ValueError, OSError, IndexError, KeyError) as e:
            raise RunError(f"{path}: is no GGUF file, or a damaged one ({e}); copy it anew") from e
        config: Any = model.config
        try:
            self._processor = TENSOR_PROCESSORS.get(kind, TensorProcessor)(config=config.to_dict())
            self._names = get_gguf_hf_weights_map(model, self._processor)
        except NotImplementedError as e:
            raise InputError(f"{path}: gguf has no names for a model of type '{config.model_type}' ({e})") from e
        self._home = {self._names[name]: name for name in self._tensors if name in self._names}
        self.files, self.keys = [path], frozenset(self._home)

    def shape(self, key: str) -> tuple[int, ...]:
        """Of a tensor, which is not read."""
        return tuple(int(size) for size in reversed(self._tensors[self._home[key]].shape))

    def read(self, key: str) -> Tensor:
        """A tensor in float32, in memory of its own."""
        from gguf import dequantize

        tensor = self._tensors[self._home[key]]
        values = dequantize(tensor.data, tensor.tensor_type)
        found: dict[str, dict[str, Tensor]] = {"tensors": {}}
        processed = self._processor.process(
            weights=values, name=tensor.name, tensor_key_mapping=self._names, parsed_parameters=found
        )
        if found["tensors"]:  # some are put there and not given back
            return next(iter(found["tensors"].values())).float()
        return torch.from_numpy(np.array(processed.weights, dtype=np.float32, order="C"))
